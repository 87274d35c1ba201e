"""What one client may cost, whatever it sends or does not read, and what ordinary clients never notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import pytest

from gateway.core import budget, closing
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.recheck import Recheck
from gateway.web.reading import Reason
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected
from tests.support.client_frames import CONTINUATION, PING, PONG, RSV1, TEXT, client_frame, squeezed
from tests.support.event_stream import address, ask, event_stream
from tests.support.nodes import Node
from tests.support.raw import CLOSE, RawClient, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
HEARTBEAT = client_frame(TEXT, b'{"type":"heartbeat"}')
# Pongs that are asked for seldom need no room of their own.
SMALL = {
    "client_message_burst": 100,
    "client_messages_per_second": 20,
    "confirm_interval_seconds": 60,
}


def connection_of(node: Node, user: str) -> Connection:
    return next(each for each in node.gateway.hub.connections.values() if each.user == user)


def subscribe(channel: str = CHANNEL, since: int | None = None) -> bytes:
    message: dict[str, Any] = {"type": "subscribe", "channel": channel}
    return client_frame(
        TEXT, json.dumps(message | ({} if since is None else {"since": since})).encode()
    )


def unsubscribe(channel: str = CHANNEL) -> bytes:
    return client_frame(TEXT, json.dumps({"type": "unsubscribe", "channel": channel}).encode())


async def closed_as(client: RawClient) -> tuple[int, str]:
    payload = (await client.next(CLOSE)).payload
    return int.from_bytes(payload[:2]), payload[2:].decode()


@contextlib.asynccontextmanager
async def neighbour(node: Node) -> AsyncIterator[list[float]]:
    """A client whose heartbeats are answered within half a second all the while.

    Seconds are those of this process, in which all of it runs: what others do on the machine does not count.
    """
    times: list[float] = []

    async def beat(client: Client) -> None:
        while True:
            started = time.process_time()
            await client.sync()
            times.append(time.process_time() - started)
            await asyncio.sleep(0.02)

    async with connected(node.url, make_token("neighbour")) as client:
        beating = asyncio.create_task(beat(client))
        yield times
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
    assert times
    assert max(times) < 0.5


# -- what is charged --------------------------------------------------------------------------

BEGUN = client_frame(TEXT, b"", fin=False)

FLOODS = {
    "messages": HEARTBEAT * 5_000,
    "messages in fragments": (
        (client_frame(TEXT, b"{", fin=False) + client_frame(CONTINUATION, b"}")) * 5_000
    ),
    "empty fragments": BEGUN + client_frame(CONTINUATION, fin=False) * 40_000,
    "fragments of a byte": BEGUN + client_frame(CONTINUATION, b"x", fin=False) * 40_000,
    "pings": client_frame(PING, b"x") * 5_000,
    "pongs": client_frame(PONG, b"x") * 40_000,
    "long messages": client_frame(TEXT, b'"' + b"x" * 200_000 + b'"') * 50,
    "what inflates to far more": (
        client_frame(TEXT, squeezed(b" " * 250_000), reserved=RSV1) * 500
    ),
    "mistakes": client_frame(TEXT, b"?") * 500,
    "tokens": client_frame(TEXT, b'{"type":"refresh","token":"x"}') * 500,
}


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_whatever_is_sent_without_end_ends_the_connection_and_delays_nobody(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    node = await start_node(**SMALL)
    deflate = "permessage-deflate; client_no_context_takeover"
    async with neighbour(node), raw_client(node.url, make_token("u"), deflate) as client:
        client.writer.write(data)
        assert await closed_as(client) == (1008, "flood")
    # Whatever came last: a ping is paid for as a frame first.
    ((by, count),) = node.gateway.stats.floods.items()
    assert count == 1
    assert f"address=127.0.0.1 exhausted_by={by!r}" in caplog.text
    _, metrics = await node.get("/metrics")
    assert f'gateway_floods_total{{exhausted_by="{by}"}} 1.0' in metrics


OF_USER = {
    "user_messages_per_second": 20,
    "user_message_burst": 150,
    "confirm_interval_seconds": 1e6,
}


async def test_two_connections_of_a_user_share_what_the_user_may_send(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    node = await start_node(**OF_USER, client_messages_per_second=1, client_message_burst=100)
    async with (
        neighbour(node),
        raw_client(node.url, make_token("u")) as first,
        raw_client(node.url, make_token("u")) as second,
    ):
        # Each alone keeps to its own budget.
        first.writer.write(HEARTBEAT * 90)
        await until(lambda: node.gateway.stats.client_messages >= 90)
        second.writer.write(HEARTBEAT * 90)
        assert await closed_as(second) == (1008, "flood")
        second.writer.close()
        await until(lambda: len(node.gateway.hub.connections) == 2)  # the neighbour's is one
        first.writer.write(client_frame(PING, b"still here"))
        assert (await first.next(PONG)).payload == b"still here"
    ((by, count),) = node.gateway.stats.floods.items()
    assert (by, count) in [("user: messages", 1), ("user: bytes and frames", 1)]
    assert f"user='u' address=127.0.0.1 exhausted_by={by!r}" in caplog.text
    await until(lambda: not node.gateway.entrance.handshakes._user_budgets._of_user.names())


async def test_a_tab_that_only_answers_stays_when_another_one_has_spent_what_the_user_may(
    start_node: StartNode,
) -> None:
    node = await start_node(
        user_messages_per_second=1e-6,
        user_message_burst=150,
        client_messages_per_second=1e-6,
        client_message_burst=140,
        confirm_interval_seconds=1e6,
    )
    async with (
        raw_client(node.url, make_token("u")) as quiet,
        raw_client(node.url, make_token("u")) as loud,
    ):
        [one, _] = [each.budget for each in node.gateway.hub.connections.values()]
        assert one.shared is not None
        assert one.shared.take(100, time.monotonic())
        loud.writer.write(HEARTBEAT * 100)
        assert await closed_as(loud) == (1008, "flood")
        while one.shared.take(0.01, time.monotonic()):
            pass
        for number in range(5):
            quiet.send(PONG, b"x")
            # Each alone, as they come: what comes together is paid for as bytes and frames too.
            await until(lambda: one._tokens < 140 - number * budget.PONG)  # noqa: B023
        loud.writer.close()
        await until(lambda: len(node.gateway.hub.connections) == 1)
        one.shared.give_back(10)  # as it does with time: it is kept until it is full again
        quiet.send(PING, b"still here")
        assert (await quiet.next(PONG)).payload == b"still here"
    assert sum(node.gateway.stats.floods.values()) == 1


async def test_a_user_with_one_connection_is_held_to_the_budget_of_that_alone(
    start_node: StartNode,
) -> None:
    node = await start_node(
        **OF_USER, client_messages_per_second=1, client_message_burst=1_000, max_connections=2
    )
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(HEARTBEAT * 900)
        for _ in range(900):
            await client.next(TEXT)
    assert not node.gateway.stats.floods


async def test_what_is_asked_of_redis_over_one_connection_of_a_user_delays_the_other(
    start_node: StartNode,
) -> None:
    node = await start_node(
        **OF_USER, client_messages_per_second=50, client_message_burst=100, max_subscriptions=1
    )
    async with (
        connected(node.url, make_token("u")),
        connected(node.url, make_token("u")) as second,
    ):
        [one, _] = [each.budget for each in node.gateway.hub.connections.values()]
        await second.subscribe(CHANNEL)
        assert node.gateway.stats.requests_delayed == 0
        one.owe(100)
        # The first subscribe was free; this one waits until the user owes nothing.
        await second.subscribe(CHANNEL, since=0)
        assert node.gateway.stats.requests_delayed == 1
    assert not node.gateway.stats.floods


@pytest.mark.parametrize("frame", [client_frame(PONG), HEARTBEAT, client_frame(PING)])
async def test_what_comes_while_a_connection_is_being_closed_is_charged_too(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, frame: bytes
) -> None:
    node = await start_node(**SMALL)
    charged = []
    heard = Heartbeats.heard
    monkeypatch.setattr(
        Heartbeats, "heard", lambda self, each: (charged.append(each), heard(self, each))
    )
    async with neighbour(node), raw_client(node.url, make_token("u")) as client:
        await client.told()
        connection = connection_of(node, "u")
        node.gateway.hub.close(connection, closing.DRAINING)
        client.writer.write(frame * 100_000)
        await until(lambda: not connection.budget.take(2.0, node.gateway.entrance.sweep._clock()))
        reading = cast(Any, connection.socket)._reading
        await until(lambda: reading.paused_for(Reason.FLOOD))
        assert (await closed_as(client))[0] == 1001
        assert charged.count(connection) < 1_200


async def test_a_hundred_connections_that_flood_delay_nobody(start_node: StartNode) -> None:
    node = await start_node(max_connections_per_user=100, **SMALL)
    empty = BEGUN + client_frame(CONTINUATION, fin=False) * 10_000
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(raw_client(node.url, make_token(f"u{number % 5}")))
            for number in range(100)
        ]
        async with neighbour(node):
            for number, client in enumerate(clients):
                client.writer.write(empty if number % 2 else client_frame(PING) * 5_000)
            for client in clients:
                assert await closed_as(client) == (1008, "flood")


async def test_what_was_sent_before_the_client_left_is_served_in_order(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """A turn serves a few frames; what is left waits, also for a client that has said all it has to say."""
    node = await start_node()
    ids = [(await publisher.publish(CHANNEL, n)).id for n in range(100)]
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(subscribe(since=0))
        while await client.told() != "notifications" or client.last["data"] != 99:
            pass
        acks = [{"type": "ack", "channel": CHANNEL, "id": each} for each in ids]
        client.writer.write(
            b"".join(client_frame(TEXT, json.dumps(each).encode()) for each in acks)
        )
        client.writer.write_eof()
        await until(lambda: not node.gateway.hub.connections)
    async with connected(node.url, make_token("u")) as again:
        await again.subscribe(CHANNEL)
        await again.sync()


# -- what a node makes a client send ----------------------------------------------------------


@pytest.mark.parametrize("subscriptions", [100, 1_000])
async def test_the_pongs_of_a_line_that_stood_still_are_no_flood_however_many_channels_it_hears(
    start_node: StartNode, subscriptions: int
) -> None:
    """All channels are busy, so that each is asked about once a second; then all is answered at once."""
    node = await start_node(max_subscriptions=subscriptions)
    silence = 60
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(client_frame(PONG, b"c12:1795365451321934") * (subscriptions * silence))
        client.writer.write(HEARTBEAT)
        assert await client.told() == "connected"
        assert await client.told() == "heartbeat"


# -- what is sent again -----------------------------------------------------------------------


async def fill(publisher: AsyncPublisher, *channels: str, count: int = 100) -> None:
    """About 200 KB a channel."""
    for channel in channels:
        await publisher.publish_many([(channel, [n, "x" * 2_000]) for n in range(count)])


async def read_for(client: RawClient, seconds: float) -> int:
    """The bytes that come in so many seconds, pings answered."""
    octets = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                octets += len(await client.reader.read(2**20))
    return octets


async def test_what_a_client_was_sent_and_asks_for_again_comes_no_faster_than_its_budget_bears(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        client_messages_per_second=40, client_message_burst=200, max_subscriptions=1
    )
    await fill(publisher, CHANNEL)
    async with neighbour(node), raw_client(node.url, make_token("u")) as client:
        for _ in range(30):
            client.writer.write(subscribe(since=0))
            # Each is let come: one that is asked for before the last has come takes its place.
            await asyncio.sleep(0.05)
        octets = await read_for(client, 1.5)
        # Once for nothing, and half of the bucket and three seconds of what comes back for more, at most a page late.
        assert 200_000 < octets < 200_000 + (100 + 3.5 * 40) * 4_096 + 300_000
        assert node.gateway.stats.requests_delayed
        assert not node.gateway.stats.floods


async def test_a_channel_that_was_not_sent_yet_does_not_wait_for_those_asked_for_again(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        client_messages_per_second=1, client_message_burst=200, confirm_interval_seconds=60
    )
    again = [f"run-results/{n}" for n in range(20)]
    await fill(publisher, *again, "run-results/new", "notifications/u")
    token = make_token("u", [*again, "run-results/new"])
    async with connected(node.url, token) as client:
        for channel in again:
            await client.subscribe(channel, since=0)
            await client.data(100)
        for channel in again:
            await client.send({"type": "subscribe", "channel": channel, "since": 0})
        await until(lambda: node.gateway.stats.requests_delayed > 0)
        for channel in ("run-results/new", "notifications/u"):
            await client.send({"type": "subscribe", "channel": channel, "since": 0})
            while (await client.receive()).get("channel") != channel:
                pass
            while (await client.receive()).get("data", [0])[0] != 99:
                pass


async def test_what_was_not_sent_yet_is_free_however_much_it_is_and_however_slowly_it_is_read(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=65_536, **SMALL)
    channels = [f"run-results/{n}" for n in range(5)]
    await fill(publisher, *channels, count=400)
    token = make_token("u", channels)
    async with raw_client(node.url, token, receive_buffer=16_384) as slow:
        slow.writer.write(b"".join(map(subscribe, channels)))
        read = dict.fromkeys(channels, 0)
        while min(read.values()) < 200:  # that many are kept
            if await slow.told() == "run-results":
                read[slow.last["channel"]] += 1
        budget = connection_of(node, "u").budget
        assert budget._owed == 0
        assert node.gateway.stats.requests_delayed == 0
        slow.writer.write(HEARTBEAT)
        while await slow.told() != "heartbeat":
            pass


# -- what is asked of Redis -------------------------------------------------------------------


async def test_subscribing_and_leaving_in_a_loop_asks_redis_no_more_than_the_budget_bears(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(max_subscriptions=40, **SMALL)
    asked: list[float] = []
    admit = Recheck.admit

    async def counted(self: Recheck, each: Any) -> bool:
        asked.append(time.monotonic())
        return await admit(self, each)

    monkeypatch.setattr(Recheck, "admit", counted)
    async with raw_client(node.url, make_token("u")) as client:
        connection_of(node, "u").budget._free_subscribes = 5
        begun = time.monotonic()
        client.writer.write(b"".join(subscribe(f"run-results/{number}") for number in range(40)))
        await until(lambda: len(asked) >= 20)
        # Five for nothing. Each other one comes when those before it are paid for, and its own message: from the upper half
        # of the bucket, and from what has come back since.
        for paid, at in enumerate(asked[5:]):
            assert 4 * paid + paid + 1 <= 50 + 20 * (at - begun)
        assert node.gateway.stats.requests_delayed
        # They wait, and nothing is refused but what nobody has granted.
        assert set(node.gateway.stats.client_errors) == {"forbidden"}


async def test_a_dashboard_that_returns_with_all_it_may_hold_waits_for_nothing(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(max_subscriptions=2_000, confirm_interval_seconds=60)
    channels = [f"run-results/{n}" for n in range(2_000)]
    await publisher.publish_many([(channel, channel) for channel in channels])
    for _ in range(2):
        async with connected(node.url, make_token("u", ["run-results/*"])) as client:
            for channel in channels:
                await client.send({"type": "subscribe", "channel": channel, "since": 0})
            seen = set()
            while len(seen) < len(channels):
                message = await client.receive()
                seen |= {message["data"]} if "data" in message else set()
            await client.sync()
    assert node.gateway.stats.requests_delayed == 0
    assert not node.gateway.stats.floods


# -- clients that do not read -----------------------------------------------------------------


async def test_a_client_that_reads_no_answers_is_not_heard_until_it_does_and_then_given_up(
    start_node: StartNode,
) -> None:
    high_water = 65_536
    node = await start_node(
        high_water_bytes=high_water,
        stall_seconds=1.0,
        client_message_burst=1e6,
        client_messages_per_second=1e6,
    )
    async with (
        neighbour(node),
        raw_client(node.url, make_token("u"), receive_buffer=16_384) as client,
    ):
        await client.told()
        connection = connection_of(node, "u")
        most = 0

        async def ask() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    client.writer.write(client_frame(PING, b"x" * 125) * 100)
                    await client.writer.drain()
                    await asyncio.sleep(0)

        def watch() -> bool:
            nonlocal most
            most = max(most, connection.socket.waiting)
            return connection.closed

        asking = asyncio.create_task(ask())
        await until(watch)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        assert most < high_water + 64 * 1024
        assert node.gateway.stats.connections_closed["1013"] == 1
        await until(lambda: connection.id not in node.gateway.hub.connections)


async def test_a_client_that_reads_its_answers_late_has_all_of_them(start_node: StartNode) -> None:
    node = await start_node(
        high_water_bytes=65_536, client_message_burst=1e6, client_messages_per_second=1e6
    )
    count = 40_000
    async with raw_client(node.url, make_token("u"), receive_buffer=16_384) as client:
        await client.told()
        connection = connection_of(node, "u")
        numbers = [b"%0100d" % n for n in range(count)]
        client.writer.write(b"".join(client_frame(PING, each) for each in numbers))
        await until(lambda: connection.socket.unheard)
        answers = [(await client.next(PONG)).payload for _ in range(count)]
        assert answers == numbers
        assert not connection.socket.unheard


# -- what waits for an answer -----------------------------------------------------------------


@pytest.mark.parametrize("since", [None, 0])
async def test_of_subscribes_that_wait_a_few_are_answered_together_and_the_others_refused_at_once(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, since: int | None
) -> None:
    """Redis is slow. Whoever asks again and again meanwhile is not to have all answers in one write."""
    node = await start_node()
    answers = asyncio.Event()
    admit = Recheck.admit

    async def late(self: Recheck, each: Any) -> bool:
        await answers.wait()
        return await admit(self, each)

    monkeypatch.setattr(Recheck, "admit", late)
    request = {"type": "subscribe", "channel": CHANNEL} | (
        {} if since is None else {"since": since}
    )
    async with connected(node.url, make_token("u")) as client:
        for _ in range(50):
            await client.send(request)
        for _ in range(50 - 16):
            await client.expect(type="error", code="too_many_subscriptions", channel=CHANNEL)
        await client.sync()
        answers.set()
        for _ in range(16):
            await client.expect(type="subscribed", channel=CHANNEL)
        await client.subscribe(CHANNEL)
        await client.sync()


# -- connections that are begun and left ------------------------------------------------------


async def test_a_user_begins_so_many_connections_in_a_while_however_they_are_made(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may ask for all that is kept, so a place that is given back and taken again has a price too."""
    begun = node.gateway.entrance.handshakes._admission._begun._quota
    assert begun._most == 200
    monkeypatch.setattr(begun, "_most", 3)
    token = make_token("u")
    async with connected(node.url, token):
        pass
    async with event_stream(node.url, token, CHANNEL) as stream:
        assert stream.answer.status == 200
    poll = await ask(node.url, address("/poll", token, [CHANNEL], wait="0"))
    assert poll.status == 200
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(node.url, token):
            pass
    assert refused.value.status == 429
    for path in ("/sse", "/poll"):
        answer = await ask(node.url, address(path, token, [CHANNEL]))
        assert (answer.status, answer.json["error"]["code"]) == (429, "too_many_requests")
        assert 1 <= int(answer.fields["retry-after"]) <= 10
    async with connected(node.url, make_token("v")):
        pass
