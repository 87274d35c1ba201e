"""Clients that read slower than is published to them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json

from publisher import AsyncPublisher, Published
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.raw import CLOSE, PING, PONG, TEXT, RawClient, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
BODY = "x" * 60_000
# More than the kernel's buffers and the node's own take together.
COUNT = 200


async def publish(publisher: AsyncPublisher, count: int = COUNT, channel: str = CHANNEL) -> None:
    for first in range(0, count, 20):
        numbers = range(first, min(first + 20, count))
        outcomes = await publisher.publish_many([(channel, [n, BODY]) for n in numbers])
        assert all(isinstance(each, Published) for each in outcomes)


async def subscribe(client: RawClient, channel: str = CHANNEL) -> None:
    client.send(TEXT, json.dumps({"type": "subscribe", "channel": channel}).encode())
    while json.loads((await client.next(TEXT)).payload)["type"] != "subscribed":
        pass


async def numbers_read(client: RawClient, count: int) -> list[int]:
    """The numbers of the next messages; pings are answered."""
    numbers: list[int] = []
    while len(numbers) < count:
        frame = await client.frame()
        if frame.opcode == PING:
            client.send(PONG, frame.payload)
        else:
            assert frame.opcode == TEXT, frame
            numbers.append(json.loads(frame.payload)["data"][0])
    return numbers


def slow_client(
    node: Node, user: str, *channels: str
) -> contextlib.AbstractAsyncContextManager[RawClient]:
    """A client for which nothing is taken that it does not read, but a little."""
    return raw_client(node.url, make_token(user, list(channels)), receive_buffer=16_384)


def behind(node: Node) -> int:
    return sum(each.behind for each in node.gateway.hub.connections.values())


def waiting(node: Node) -> int:
    """The most that waits for one client."""
    return max(each.socket.waiting for each in node.gateway.hub.connections.values())


async def test_a_slow_client_costs_bounded_memory_and_has_everything_in_the_end(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    high_water = 256 * 1024
    node = await start_node(high_water_bytes=high_water)
    async with (
        slow_client(node, "u") as slow,
        connected(node.url, make_token("u")) as other,
    ):
        await subscribe(slow)
        await other.subscribe(CHANNEL)
        for number in range(COUNT):
            # One after the other: of many at once more may wait for a moment also for who keeps up.
            await publisher.publish(CHANNEL, [number, BODY])
            assert await other.data(1) == [[number, BODY]]
        assert behind(node) == 1
        # One turn's messages may come on top of the mark: what one read from Redis brings.
        assert waiting(node) < high_water + 512 * 1024
        assert node.gateway.stats.messages_dropped == 0
        assert await numbers_read(slow, COUNT) == list(range(COUNT))
        await until(lambda: not behind(node))
        await publisher.publish(CHANNEL, ["live", ""])
        assert await other.data(1) == [["live", ""]]
        assert json.loads((await slow.next(TEXT)).payload)["data"][0] == "live"
        _, metrics = await node.get("/metrics")
        assert "gateway_slow_consumers_total 1.0" in metrics
        assert "gateway_connections_behind 0.0" in metrics


async def test_what_the_log_no_longer_has_for_a_slow_client_is_told_and_counted(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    retention = {"max_messages": 20, "max_age_seconds": 60}
    rules = {"few": {"owner": "anyone", "retention": retention}}
    node = await start_node(high_water_bytes=65_536, namespaces=rules)
    async with slow_client(node, "u") as slow:
        await subscribe(slow, "few/x")
        await publish(publisher, channel="few/x")
        lost = False
        last = -1
        while last < COUNT - 1:
            frame = await slow.next(TEXT)
            message = json.loads(frame.payload)
            if message["type"] == "error":
                assert (message["code"], message["channel"]) == ("messages_lost", "few/x")
                lost = True
            elif message["type"] == "few":
                assert message["data"][0] == last + 1 or lost
                last = message["data"][0]
        assert lost
        assert node.gateway.stats.losses_reported >= 1


async def test_messages_without_a_log_are_dropped_for_a_slow_client_and_counted(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    rules = {"ticker": {"owner": "anyone", "retention": None}}
    node = await start_node(high_water_bytes=65_536, namespaces=rules)
    async with slow_client(node, "u") as slow:
        await subscribe(slow, "ticker/x")
        await publish(publisher, channel="ticker/x")
        await until(lambda: node.gateway.stats.messages_received >= COUNT)
        dropped = node.gateway.stats.messages_dropped
        assert 0 < dropped < COUNT
        numbers = await numbers_read(slow, COUNT - dropped)
        # What is missing may lie in the middle: who has taken all that waited is live again.
        assert numbers == sorted(set(numbers))
        await until(lambda: not behind(node))
        await publisher.publish("ticker/x", ["live", ""])
        assert json.loads((await slow.next(TEXT)).payload)["data"][0] == "live"


async def test_a_client_that_takes_nothing_is_closed_with_1013(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=65_536, stall_seconds=0.3)
    async with slow_client(node, "u") as stuck:
        await subscribe(stuck)
        await publish(publisher)
        await until(lambda: node.gateway.stats.connections_closed["1013"] == 1)
        close = await stuck.next(CLOSE)
        assert close.payload == (1013).to_bytes(2) + b"slow_consumer"
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = (await client.receive())["data"][0]
        assert [n for n, _ in await client.data(COUNT - 1 - first)][-1] == COUNT - 1
        assert first == 0


async def test_a_client_that_reads_slowly_is_not_taken_for_dead(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """Its pongs are late because they wait behind what it has yet to read."""
    node = await start_node(
        high_water_bytes=65_536,
        ping_interval_seconds=0.2,
        pong_timeout_seconds=0.2,
        stall_seconds=0.5,
    )
    async with slow_client(node, "u") as slow:
        await subscribe(slow)
        await publish(publisher)
        numbers = []
        while len(numbers) < COUNT - 50:
            # Some megabytes a second: several times the pong's time for all of it.
            numbers += await numbers_read(slow, 5)
            await asyncio.sleep(0.05)
        numbers += await numbers_read(slow, COUNT - len(numbers))
        assert numbers == list(range(COUNT))
        assert not node.gateway.stats.connections_closed


async def test_a_client_that_does_not_read_is_sent_few_pages_however_much_it_subscribes_to(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    high_water = 256 * 1024
    node = await start_node(high_water_bytes=high_water)
    names = [f"run-results/{number}" for number in range(40)]
    for name in names:
        await publish(publisher, 5, name)
    async with slow_client(node, "u", "run-results/*") as client:
        await until(lambda: node.gateway.hub.connections)
        [connection] = node.gateway.hub.connections.values()
        for _ in range(3):
            for name in names:
                request = {"type": "subscribe", "channel": name, "since": 0}
                client.send(TEXT, json.dumps(request).encode())
        await until(lambda: node.gateway.stats.client_messages == 3 * len(names))
        await until(connection.replays.locked)
        # Eight pages of 300 KB, and one turn's answers.
        assert waiting(node) < high_water + 8 * 320_000
        numbers = await numbers_of(client, names, 5)
        assert all(each == list(range(5)) for each in numbers.values())


async def numbers_of(client: RawClient, names: list[str], count: int) -> dict[str, list[int]]:
    """The last ``count`` numbers of each channel, once each has that many; repeats begin again."""
    numbers: dict[str, list[int]] = {name: [] for name in names}
    while any(len(each) < count for each in numbers.values()):
        frame = await client.frame()
        if frame.opcode == PING:
            client.send(PONG, frame.payload)
            continue
        message = json.loads(frame.payload)
        if message["type"] == "run-results":
            numbers[message["channel"]].append(message["data"][0])
    return {name: each[-count:] for name, each in numbers.items()}


async def test_a_client_that_reads_several_channels_steadily_is_not_given_up(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """The pages of other channels that are written behind are no lack of progress."""
    node = await start_node(high_water_bytes=65_536, stall_seconds=0.4)
    names = [f"run-results/{number}" for number in range(8)]
    for name in names:
        await publish(publisher, 40, name)
    async with slow_client(node, "u", "run-results/*") as client:
        for name in names:
            client.send(TEXT, json.dumps({"type": "subscribe", "channel": name}).encode())
        read = 0
        while read < 40 * len(names):
            frame = await client.frame()
            if frame.opcode == PING:
                client.send(PONG, frame.payload)
            elif b'"data"' in frame.payload[:200]:
                read += 1
                # A page takes longer than the stall.
                await asyncio.sleep(0.01)
        assert not node.gateway.stats.connections_closed
