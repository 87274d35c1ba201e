"""A subscription that is paused hears nothing, wherever it stands; resumed, it has missed nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.frames import PLAIN
from gateway.node.connection import Connection, Subscription
from publisher.contract.channels import parse_channel
from tests.support.waiting import until
from tests.unit.bench import Bench, ids, small
from tests.unit.fakes import NEWS, RecordingSocket, payload, run, turn
from tests.unit.wire import messages_in

STEPS = st.lists(
    st.sampled_from(
        [
            *("live", "live", "publish", "deliver", "flood", "accept", "answer", "advance", "turn"),
            *("pause", "pause", "resume", "slow", "drain", "settle"),
        ]
    ),
    max_size=60,
)


@dataclass
class Paused:
    """What a client had when it was paused; ``whole``: with all that it listens to."""

    subscription: Subscription
    socket: RecordingSocket
    whole: bool
    had: bytes | None = None

    def pause(self, bench: Bench) -> None:
        if not self.whole:
            bench.catchup.pause(self.subscription)
        elif self.had is None:
            bench.catchup.pause_all(self.subscription.connection)
        bench.node.hub.outboxes.flush()  # what was due to it before
        if self.had is None:
            self.had = self.socket.received

    def resume(self, bench: Bench) -> None:
        was_paused = self.had is not None
        if self.had is not None:
            assert self.socket.received == self.had
            self.had = None
        if not self.whole:
            bench.catchup.resume(self.subscription)
        elif was_paused:
            bench.catchup.resume_all(self.subscription.connection)


@settings(max_examples=400)
@given(st.integers(0, 8), st.booleans(), st.booleans(), STEPS, st.integers(2, 4), st.integers(0, 3))
def test_however_things_fall_a_paused_client_hears_nothing_and_in_the_end_everything_once(
    before: int, accompanied: bool, whole: bool, steps: list[str], page: int, held: int
) -> None:
    async def scenario() -> None:
        bench = Bench()
        for _ in range(before):
            bench.redis.publish()
        sockets = [bench.join(id="other")[1]] if accompanied else []
        client, socket, _ = bench.join()
        sockets.append(socket)
        it = Paused(client.subscriptions[NEWS.name], socket, whole)
        for step in steps:
            match step:
                case "pause":
                    it.pause(bench)
                case "resume":
                    it.resume(bench)
                case "slow":
                    socket.slow = True
                case "drain":
                    socket.waiting = 0
                case _:
                    await bench.step(step)
        socket.slow, socket.waiting = False, 0
        await bench.settle()
        it.resume(bench)
        await bench.settle()
        bench.redis.publish()
        await bench.settle()
        everything = [message.id for message in bench.redis.log]
        for each in sockets:
            assert ids(each) == everything
        assert client in bench.node.open().members[PLAIN]
        assert not bench.node.open().away
        await bench.close()

    with small(page, held):
        run(scenario())


async def beside_another() -> tuple[Bench, Subscription, RecordingSocket]:
    """A live subscription to a channel that somebody else hears too."""
    bench = Bench()
    bench.join(id="other")
    client, socket, _ = bench.join()
    await bench.settle()
    return bench, client.subscriptions[NEWS.name], socket


async def test_who_is_resumed_where_the_others_stand_goes_live_without_reading_the_log() -> None:
    bench, it, socket = await beside_another()
    bench.catchup.pause(it)
    bench.catchup.resume(it)
    await turn()
    assert it.live is not None
    assert not bench.redis.reads
    await bench.step("live")
    assert ids(socket) == [2]
    await bench.close()


async def test_who_is_paused_again_before_they_have_come_back_stays_out() -> None:
    bench, it, socket = await beside_another()
    bench.catchup.pause(it)
    bench.catchup.resume(it)
    bench.catchup.pause(it)
    await turn()
    assert it.live is None
    await bench.step("live")
    assert not ids(socket)
    bench.catchup.resume(it)
    await bench.settle()
    assert ids(socket) == [2]
    await bench.close()


async def test_who_is_paused_while_nothing_is_delivered_to_anybody_stays_out_when_that_is_over() -> (
    None
):
    bench, it, socket = await beside_another()
    bench.catchup.pause(it)
    await bench.step("live")
    bench.catchup.resume(it)
    await bench.redis.advance()
    bench.node.hub.hold()
    bench.redis.answer()
    await bench.redis.advance()
    bench.catchup.pause(it)
    bench.node.hub.release()
    await bench.redis.advance()
    assert not ids(socket)
    bench.catchup.resume(it)
    await bench.settle()
    assert ids(socket) == [2]
    await bench.close()


async def test_a_connection_and_one_of_its_subscriptions_are_paused_each_for_itself() -> None:
    bench, it, socket = await beside_another()
    bench.catchup.pause(it)
    bench.catchup.pause_all(it.connection)
    bench.catchup.resume(it)
    await bench.step("live")
    await bench.settle()
    assert not ids(socket)
    bench.catchup.pause(it)
    bench.catchup.resume_all(it.connection)
    await bench.settle()
    assert not ids(socket)
    bench.catchup.resume(it)
    await bench.settle()
    assert ids(socket) == [2]
    await bench.close()


async def test_who_is_paused_for_two_reasons_stays_out_until_both_are_over() -> None:
    bench, it, socket = await beside_another()
    for _ in range(2):
        bench.catchup.pause_all(it.connection)
    bench.catchup.resume_all(it.connection)
    await bench.step("live")
    await bench.settle()
    assert not ids(socket)
    bench.catchup.resume_all(it.connection)
    await bench.settle()
    assert ids(socket) == [2]
    await bench.close()


async def test_where_no_log_is_kept_who_joins_paused_goes_live_when_resumed() -> None:
    bench = Bench()
    client, socket, _ = bench.join()
    await bench.settle()
    calls = parse_channel("calls/1")
    it = client.subscriptions[calls.name] = Subscription(client, calls)
    bench.catchup.pause(it)
    bench.catchup.start(it, partial(bench.catchup.join, it, None))
    for _ in range(8):
        await bench.redis.advance()
    had = socket.received
    bench.node.hub.receive(calls.name, payload(1, None))
    await turn()
    assert socket.received == had
    bench.catchup.resume(it)
    assert it.task is not None
    await it.task
    bench.node.hub.receive(calls.name, payload(2, None))
    await turn()
    received = messages_in(socket.received)[len(messages_in(had)) :]
    assert [each["type"] for each in received] == ["subscribed", "calls"]
    await bench.close()


async def test_whatever_fails_while_a_subscription_comes_back_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would look alive, and be silent for ever."""
    bench = Bench()
    client, _, _ = bench.join()
    bench.join(id="c2")  # so that the channel is live, and nothing was missed
    await bench.settle()
    it = client.subscriptions[NEWS.name]
    bench.catchup.pause(it)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.node.hub, "go_live", broken)
    bench.catchup.resume(it)
    await until(lambda: bool(bench.failed))
    ((failed, error),) = bench.failed
    assert failed is it
    assert isinstance(error, ZeroDivisionError)
    await bench.close()


async def join(bench: Bench, client: Connection, names: list[str]) -> list[Subscription]:
    """Begin to subscribe to channels, as far as to the question for a page."""
    begun = []
    for name in names:
        channel = parse_channel(name)
        it = client.subscriptions[channel.name] = Subscription(client, channel)
        bench.catchup.start(it, partial(bench.catchup.join, it, None))
        begun.append(it)
    for _ in range(2 * len(names)):
        await bench.redis.advance()
    return begun


async def test_channels_that_are_paused_leave_the_pages_to_the_clients_others() -> None:
    bench = Bench()
    client, _, _ = bench.join()
    await bench.settle()
    slots = client.replays._value
    paused = await join(bench, client, [f"runs/{number}" for number in range(slots)])
    assert client.replays.locked()
    for it in paused:
        bench.catchup.pause(it)
    for _ in paused:
        bench.redis.answer()
    await bench.redis.advance()
    assert not client.replays.locked()
    (other,) = await join(bench, client, ["news/other"])
    bench.redis.answer()
    await bench.settle()
    assert other.live is not None
    for it in paused:
        assert it.live is None
        bench.catchup.resume(it)
    await bench.settle()
    assert all(it.live is not None for it in paused)
    await bench.close()
