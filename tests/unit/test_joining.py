"""From subscribing to live delivery, with Redis, the log and the event loop interleaved at will."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.closing import SLOW_CONSUMER
from gateway.core.frames import PLAIN, Encoding
from gateway.node.connection import Connection, Subscription
from gateway.node.stalls import Patience
from publisher.contract.channels import parse_channel
from tests.support.waiting import until
from tests.unit.bench import MAX_SUBSCRIPTIONS, Bench, ids, small
from tests.unit.fakes import (
    HIGH_WATER,
    NEWS,
    RecordingSocket,
    logged,
    lost,
    make_connection,
    payload,
    run,
    turn,
)
from tests.unit.wire import TEXT, frames_in, messages_in, messages_of

STEPS = st.lists(
    st.sampled_from(
        ["publish", "publish", "deliver", "flood", "accept", "answer", "advance", "turn", "join"]
    ),
    max_size=60,
)

# Clients may also stop to read, and read what waits for them.
STEPS_OF_SLOW_CLIENTS = st.lists(
    st.sampled_from(
        ["live", "live", "publish", "flood", "answer", "accept", "turn", "join", "slow", "drain"]
    ),
    min_size=12,
    max_size=60,
).map(lambda steps: ["settle", *steps])


# One client is live; another has read message 2 before it comes live, together with message 4.
QUESTION_TOO_EARLY = [
    *("advance", "answer", "turn", "turn", "join", "advance"),
    *("publish", "answer", "turn", "turn", "publish", "flood"),
]


async def interleave(
    bench: Bench, before: int, since: int | None, steps: list[str]
) -> list[tuple[Connection, RecordingSocket]]:
    """Up to four clients join a channel that holds ``before`` messages, while all else goes on."""
    for _ in range(before):
        bench.redis.publish()
    joined: list[tuple[Connection, RecordingSocket, asyncio.Task[None]]] = []
    encodings = iter([PLAIN, Encoding(0, True), Encoding(15, False), PLAIN])
    for step in ["join", *steps]:
        match step:
            case "join":
                if (encoding := next(encodings, None)) is not None:
                    joined.append(bench.join(since, encoding, f"c{len(joined)}"))
            case "slow":
                joined[-1][1].slow = True
            case "drain":
                joined[-1][1].waiting = 0
            case _:
                await bench.step(step)
    for _, socket, _ in joined:
        socket.slow, socket.waiting = False, 0
    await bench.settle()
    assert all(task.done() for _, _, task in joined)
    return [(client, socket) for client, socket, _ in joined]


@settings(max_examples=300)
@given(
    st.integers(0, 8),
    st.none() | st.integers(0, 8),
    STEPS | STEPS_OF_SLOW_CLIENTS,
    st.integers(2, 4),
    st.integers(0, 3),
)
def test_however_things_fall_every_client_gets_every_message_once_and_in_order(
    before: int, since: int | None, steps: list[str], page: int, held: int
) -> None:
    position = 2 * min(since, before) if since is not None else None

    async def scenario() -> None:
        bench = Bench()
        clients = await interleave(bench, before, position, steps)
        # A last message shows that everybody has gone live.
        bench.redis.publish()
        await bench.settle()
        everything = [m.id for m in bench.redis.log if m.id > (position or 0)]
        for client, socket in clients:
            received = messages_in(socket.received)
            assert [m["type"] for m in received].count("subscribed") == 1
            assert received[0]["type"] == "subscribed"
            assert received[0].get("recovered") is (None if since is None else True)
            assert ids(socket) == everything
            assert client in bench.node.open().members[socket.encoding]
        await bench.close()

    with small(page, held):
        run(scenario())


@settings(max_examples=150, database=None, derandomize=True)
@given(st.integers(0, 4), STEPS | STEPS_OF_SLOW_CLIENTS)
@example(0, QUESTION_TOO_EARLY)
def test_however_things_fall_no_pong_proves_more_than_what_came_before_its_ping(
    before: int, steps: list[str]
) -> None:
    async def scenario() -> None:
        bench = Bench()
        clients = await interleave(bench, before, None, steps)
        for client, socket in clients:
            received = 0
            for frame in frames_in(socket.received):
                if frame.opcode == TEXT:
                    received = max([received, *(m.get("id", 0) for m in messages_of(frame))])
                else:
                    bench.node.confirmation.pong(client, frame.payload)
                    [(_, _, proven)] = bench.node.positions.advanced
                    assert proven <= received
                    bench.node.positions.advanced.clear()
        await bench.close()

    with small(3, 2):
        run(scenario())


# -- single cases ---------------------------------------------------------------------------------


async def test_the_log_is_read_only_once_the_channel_is_heard() -> None:
    bench = Bench()
    bench.join()
    for _ in range(5):
        await turn()
    assert not bench.redis.reads
    await bench.redis.advance()
    assert bench.redis.reads
    bench.redis.answer()
    await turn()
    await bench.close()


async def test_what_comes_while_the_log_is_read_follows_what_was_read() -> None:
    bench = Bench()
    bench.redis.publish()
    _, socket, _ = bench.join()
    await bench.redis.advance()
    bench.redis.publish()
    bench.redis.answer()  # holds 2 and 4; 4 comes live too, and 6 only live
    bench.redis.publish()
    bench.redis.flood()
    await turn()
    await turn()
    assert ids(socket) == [2, 4, 6]
    await bench.close()


async def test_what_was_read_before_it_comes_live_is_not_repeated() -> None:
    bench = Bench()
    _, socket, _ = bench.join()
    await bench.redis.advance()
    bench.redis.publish()
    bench.redis.answer()
    await turn()
    bench.redis.flood()
    await turn()
    assert ids(socket) == [2]
    await bench.close()


async def test_who_has_read_all_that_came_is_live_at_once() -> None:
    bench = Bench()
    client, socket, _ = bench.join()
    await bench.settle()
    assert client in bench.node.open().members[socket.encoding]
    assert bench.node.open().buffer is None
    await bench.close()


@pytest.mark.parametrize("held", [0, 2])
async def test_more_than_can_be_held_is_read_from_the_log_instead(held: int) -> None:
    bench = Bench()
    with small(100, held):
        _, socket, _ = bench.join()
        await bench.redis.advance()
        bench.redis.answer()
        for _ in range(4):
            bench.redis.publish()
        bench.redis.flood()
        await bench.settle()
    assert ids(socket) == [2, 4, 6, 8]
    await bench.close()


async def test_without_since_a_loss_is_told_and_without_loss_nothing_is_said() -> None:
    for trimmed, recovered in ((0, None), (2, False)):
        bench = Bench()
        for _ in range(4):
            bench.redis.publish()
        del bench.redis.log[:trimmed]
        _, socket, _ = bench.join()
        await bench.settle()
        assert messages_in(socket.received)[0].get("recovered") is recovered
        assert bench.node.stats.losses_reported == (1 if trimmed else 0)
        await bench.close()


@pytest.mark.parametrize(("trimmed", "recovered"), [(0, True), (2, True), (3, False)])
async def test_with_since_the_answer_says_whether_everything_follows(
    trimmed: int, recovered: bool
) -> None:
    bench = Bench()
    for _ in range(5):
        bench.redis.publish()
    del bench.redis.log[:trimmed]
    _, socket, _ = bench.join(since=4)
    await bench.settle()
    assert messages_in(socket.received)[0]["recovered"] is recovered
    assert ids(socket) == [m.id for m in bench.redis.log if m.id > 4]
    await bench.close()


async def test_a_slow_client_is_sent_a_page_and_no_more_until_it_has_taken_it() -> None:
    bench = Bench()
    with small(2, 1_000):
        for _ in range(6):
            bench.redis.publish()
        client, socket, _ = bench.join(since=0)
        socket.slow = True
        for sent in (2, 4):
            await bench.settle()
            assert len(ids(socket)) == sent
            assert client.subscriptions[NEWS.name].away
            socket.waiting = 0
        await bench.settle()
        assert ids(socket) == [2, 4, 6, 8, 10, 12]
        assert bench.node.open().away == 0
    await bench.close()


async def test_who_was_not_live_yet_has_not_left_live_delivery() -> None:
    """A page may be larger than the mark: whoever reads it waits before the next one anyway."""
    bench = Bench()
    with small(4, 1_000):
        for _ in range(8):
            bench.redis.publish()
        client, socket, _ = bench.join(since=0)
        socket.slow = True
        await bench.settle()
        assert socket.waiting > HIGH_WATER
        assert not client.behind
        socket.slow, socket.waiting = False, 0
        await bench.settle()
        assert len(ids(socket)) == 8
        assert client in bench.node.open().members[socket.encoding]
        assert bench.node.stats.slow_consumers == 0
    await bench.close()


async def test_a_client_behind_is_left_out_of_live_delivery_and_catches_up_from_the_log() -> None:
    bench = Bench()
    client, socket, _ = bench.join()
    _, other, _ = bench.join(id="c2")
    await bench.settle()
    socket.slow = True
    for _ in range(20):
        bench.redis.publish()
        await bench.settle()
    everything = [message.id for message in bench.redis.log]
    assert ids(other) == everything
    written = socket.received
    assert len(ids(socket)) < 5
    assert client.behind
    assert bench.node.stats.slow_consumers == 1
    for _ in range(5):
        bench.redis.publish()
    await bench.settle()
    assert socket.received == written
    socket.slow, socket.waiting = False, 0
    await bench.settle()
    assert ids(socket) == [message.id for message in bench.redis.log]
    assert not client.behind
    assert client in bench.node.open().members[socket.encoding]
    await bench.close()


async def test_what_is_in_no_log_is_counted_when_a_client_behind_does_not_get_it() -> None:
    bench = Bench()
    client, socket, _ = bench.join()
    await bench.settle()
    socket.slow, socket.waiting = True, 1_000
    bench.node.hub.receive(NEWS.name, payload(1, None))
    await turn()
    assert client.behind
    for _ in range(3):
        bench.node.hub.receive(NEWS.name, payload(1, None))
        await turn()
    assert bench.node.stats.messages_dropped == 3
    bench.node.hub.leave(bench.node.open(), client.subscriptions[NEWS.name])
    bench.node.hub.receive(NEWS.name, payload(1, None))
    assert bench.node.stats.messages_dropped == 3
    await bench.close()


async def test_a_client_that_takes_nothing_is_given_up_and_one_that_takes_a_little_is_not() -> None:
    bench = Bench()
    patience = Patience(bench.node.hub, 30, bench.node.clock)
    (idle, idle_socket), (busy, busy_socket) = make_connection(), make_connection(id="c2")
    for socket in (idle_socket, busy_socket):
        socket.slow, socket.waiting = True, 1_000
    for connection in (idle, busy):
        patience.watch(connection)
    waits = [bench.tasks.spawn(patience.drained(each), "wait") for each in (idle, busy)]

    for _ in range(30):
        assert idle_socket.closing is None
        patience.tick()
        bench.node.clock.now += 1
        busy_socket.waiting -= 1
        for socket in (idle_socket, busy_socket):
            socket.write(b"a ping and more, which is no progress")
    patience.tick()
    assert idle_socket.closing is SLOW_CONSUMER
    assert busy_socket.closing is None
    busy_socket.waiting = 0
    await asyncio.wait(waits)
    await bench.close()


async def test_what_is_trimmed_between_two_pages_is_not_lost_in_silence() -> None:
    bench = Bench()
    with small(2, 1_000):
        for _ in range(8):
            bench.redis.publish()
        _, socket, _ = bench.join(since=0)
        while not ids(socket):
            bench.redis.accept()
            bench.redis.deliver()
            bench.redis.answer()
            await turn()
        del bench.redis.log[:6]
        await bench.settle()
        assert ids(socket) == [2, 4, 14, 16]
        assert lost(4, 16, bench.redis.log)
        assert bench.node.stats.losses_reported == 1
    await bench.close()


async def test_a_since_that_the_log_does_not_reach_is_a_loss_and_mutes_nothing() -> None:
    bench = Bench()
    bench.redis.publish()
    _, socket, _ = bench.join(since=2**53 - 1)
    await bench.settle()
    bench.redis.publish()
    await bench.settle()
    assert messages_in(socket.received)[0]["recovered"] is False
    # Its ids may be of a history that Redis has lost: what is retained now may have lower ones.
    assert ids(socket) == [2, 4]
    await bench.close()


async def test_what_this_connection_was_sent_before_is_not_repeated() -> None:
    bench = Bench()
    for _ in range(3):
        bench.redis.publish()
    client, socket, _ = bench.join()
    client.positions[NEWS.name] = 4
    await bench.settle()
    assert ids(socket) == [6]
    await bench.close()


async def test_what_was_sent_before_may_reach_behind_the_first_page_and_nothing_is_lost() -> None:
    bench = Bench()
    with small(2, 1_000):
        for _ in range(4):
            bench.redis.publish()
        client, socket, _ = bench.join()
        client.positions[NEWS.name] = 6
        await bench.settle()
    assert "recovered" not in messages_in(socket.received)[0]
    assert ids(socket) == [8]
    await bench.close()


async def test_what_was_held_with_a_gap_before_it_is_read_from_the_log_instead() -> None:
    bench = Bench()
    _, socket, _ = bench.join()
    await bench.redis.advance()
    bench.redis.answer()
    bench.redis.publish()
    bench.redis.stream.clear()
    bench.redis.publish()
    bench.redis.flood()
    await bench.settle()
    assert ids(socket) == [2, 4]
    await bench.close()


async def test_of_as_many_channels_as_it_may_subscribe_to_a_connection_remembers_its_position() -> (
    None
):
    bench = Bench()
    client, _ = make_connection()
    for number in range(1, MAX_SUBSCRIPTIONS + 3):
        subscription = Subscription(client, parse_channel(f"news/{number}"))
        subscription.interested, subscription.position = True, number
        subscription.answers = 0  # it has begun
        bench.catchup.leave(subscription)
    last = range(3, MAX_SUBSCRIPTIONS + 3)
    assert client.positions == {f"news/{number}": number for number in last}
    await bench.close()


async def test_since_counts_more_than_what_was_sent_before() -> None:
    bench = Bench()
    for _ in range(3):
        bench.redis.publish()
    client, socket, _ = bench.join(since=0)
    client.positions[NEWS.name] = 4
    await bench.settle()
    assert ids(socket) == [2, 4, 6]
    await bench.close()


async def test_every_request_that_waits_is_answered() -> None:
    bench = Bench()
    client, socket, _ = bench.join()
    client.subscriptions[NEWS.name].answers = 3
    await bench.settle()
    assert [m["type"] for m in messages_in(socket.received)] == ["subscribed"] * 3
    await bench.close()


async def test_while_redis_is_away_a_subscription_waits_and_loses_nothing() -> None:
    bench = Bench()
    bench.redis.publish()
    bench.redis.down = True
    _, socket, _ = bench.join()
    for _ in range(20):
        bench.redis.accept()
        bench.redis.deliver()
        bench.redis.answer()
        await turn()
    assert socket.writes == []
    bench.redis.down = False
    await bench.settle()
    assert ids(socket) == [2]
    await bench.close()


async def test_a_repair_of_a_channel_that_was_closed_tells_its_next_members_nothing() -> None:
    bench = Bench(linger=0)
    client, _, _ = bench.join()
    await bench.settle()
    bench.redis.publish()
    bench.redis.stream.clear()  # it does not arrive
    bench.redis.publish()
    bench.redis.flood()
    await turn()
    question = bench.redis.reads.popleft()
    bench.catchup.leave(client.subscriptions[NEWS.name])
    await until(lambda: NEWS.name not in bench.node.hub.channels)
    _, socket, _ = bench.join(since=4, id="c2")
    await bench.settle()
    del bench.redis.log[:1]
    bench.redis.reads.append(question)
    await bench.settle()
    bench.redis.publish()
    await bench.settle()
    assert [message["type"] for message in messages_in(socket.received)] == ["subscribed", "news"]
    assert bench.node.stats.losses_reported == 0
    await bench.close()


async def test_for_a_client_that_is_being_closed_the_log_is_read_no_further() -> None:
    bench = Bench()
    with small(1, 1_000):
        for _ in range(5):
            bench.redis.publish()
        client, socket, task = bench.join(since=0)
        socket.slow = True
        while not socket.writes:
            await bench.redis.advance()
            bench.redis.answer()
        await turn()
        bench.node.hub.close(client, SLOW_CONSUMER)
        await until(task.done)
        assert not bench.redis.reads
        assert client not in bench.node.open().members.get(PLAIN, ())
    await bench.close()


async def test_a_pong_for_what_redis_has_lost_proves_nothing_of_what_is_read_instead() -> None:
    """The client is too slow for live delivery, so that its pong is late, when the log falls back."""
    bench = Bench()
    client, socket, _ = bench.join()
    await bench.settle()
    for _ in range(5):
        bench.redis.publish()
    await bench.settle()
    socket.slow = True
    bench.catchup.leave_out(client)
    bench.node.hub.outboxes.flush()
    late = [frame for frame in frames_in(socket.received) if frame.opcode != TEXT][-1]
    bench.redis.log = [logged(1), logged(3, 1)]
    bench.node.positions.advanced.clear()
    socket.slow = False
    await bench.settle()
    assert ids(socket)[-2:] == [1, 3]
    bench.node.confirmation.pong(client, late.payload)
    assert not bench.node.positions.advanced
    await bench.close()
