"""Clients on slow lines: what they take is a sign of life, though their pongs are behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected
from tests.support.nodes import Node
from tests.support.raw import CLOSE, TEXT, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
FASTER = 30
"""Lines are so many times faster than those that users have, and times so much shorter."""
PINGS = {"ping_interval_seconds": 30 / FASTER, "pong_timeout_seconds": 30 / FASTER}
BUFFER = 8 * 1024
SUBSCRIBE = b'{"type":"subscribe","channel":"notifications/u"}'


@contextlib.asynccontextmanager
async def slow_line(node: Node, bytes_per_second: float) -> AsyncIterator[Proxy]:
    """A line to a node that takes no more from it than it has brought on."""
    line = Proxy(int(node.url.rpartition(":")[2]), buffer=BUFFER)
    line.down.bytes_per_second = bytes_per_second * FASTER
    await line.start()
    async with contextlib.aclosing(line):
        yield line


@contextlib.asynccontextmanager
async def client_behind(line: Proxy) -> AsyncIterator[Client]:
    async with connected(f"ws://127.0.0.1:{line.port}", make_token("u")) as client:
        yield client


@pytest.mark.parametrize(
    ("size", "bytes_per_second"),
    [(1_000_000, 12_000), (200_000, 3_000)],
    ids=["1 MB at 12 KB a second", "200 KB at 3 KB a second"],
)
async def test_a_living_client_on_a_slow_line_stays_while_bytes_flow(
    start_node: StartNode, publisher: AsyncPublisher, size: int, bytes_per_second: float
) -> None:
    node = await start_node(**PINGS)
    async with slow_line(node, bytes_per_second) as line, client_behind(line) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "x" * size)
        assert await client.data(1) == ["x" * size]
        await client.sync()
        assert not node.gateway.stats.connections_closed


async def test_a_line_that_breaks_off_in_the_middle_of_a_message_is_noticed_in_time(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(**PINGS)
    async with slow_line(node, 3_000) as line, client_behind(line) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "x" * 400_000)
        [connection] = node.gateway.hub.connections.values()
        # The pong of a ping that was sent meanwhile has been waited for once.
        await until(lambda: node.gateway.delivery.heartbeats._pinged._prolonged)
        line.links[0].vanish()
        at = node.gateway.delivery.heartbeats._clock()
        await until(lambda: node.gateway.stats.connections_closed["3008"] == 1)
        assert node.gateway.delivery.heartbeats._clock() - at < 3 * 30 / FASTER
        assert connection.closed


async def test_a_client_that_takes_everything_and_never_answers_is_closed(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """As one whose program hangs: only what is ahead of a ping excuses a late pong."""
    node = await start_node(**PINGS)
    async with (
        slow_line(node, 3_000) as line,
        raw_client(f"ws://127.0.0.1:{line.port}", make_token("u")) as client,
    ):
        client.send(TEXT, SUBSCRIBE)
        while await client.told() != "subscribed":
            pass
        await publisher.publish(CHANNEL, "x" * 200_000)
        await until(lambda: node.gateway.delivery.heartbeats._ahead)
        assert await client.told() == "notifications"
        closed = await client.next(CLOSE)
        assert closed.payload == (3008).to_bytes(2) + b"pong_timeout"


async def test_a_living_client_that_sends_a_lot_over_a_slow_line_stays(
    start_node: StartNode,
) -> None:
    """Its pongs are behind what it sends: 320 KB at 3 KB a second."""
    node = await start_node(**PINGS)
    count = 20
    async with slow_line(node, 12_000) as line:
        line.up.bytes_per_second = 3_000 * FASTER
        async with client_behind(line) as client:
            for _ in range(count):
                await client.send({"type": "heartbeat", "padding": "x" * 16_000})
            for _ in range(count):
                await client.expect(type="heartbeat")
        assert not node.gateway.stats.connections_closed["3008"]
