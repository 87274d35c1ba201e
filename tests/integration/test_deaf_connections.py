"""A pub/sub connection that has gone deaf is noticed and replaced; one that is only busy is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count

import pytest

from publisher import AsyncPublisher
from tests.faults.proxy import Link, Proxy
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
LIVE = {"ticks": {"owner": "anyone", "retention": None}}
UNREADY_SECONDS = 3.0
BUSY_SECONDS = 3.5
"""Longer than the node waits for its probe, and than a connection may be silent."""


@pytest.fixture
async def behind(proxy: Proxy, prefix: str) -> AsyncIterator[Node]:
    """A node that reaches Redis through the proxy."""
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running_node(url, prefix, namespaces=LIVE) as node:
        yield node


def pubsub_link(proxy: Proxy) -> Link:
    [link] = [each for each in proxy.links if each.subscribed]
    return link


async def test_a_burst_that_takes_long_to_write_costs_neither_the_connection_nor_readiness(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces=LIVE)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("ticks/1")
        reconnects = node.gateway.stats.redis_reconnects
        node.gateway.redis.subscriber.throttle(
            True
        )  # as the hub does while much waits to be written
        await publisher.publish("ticks/1", "not logged")
        async with asyncio.timeout(BUSY_SECONDS + 5):
            for _ in range(35):
                await asyncio.sleep(BUSY_SECONDS / 35)
                assert node.gateway.ready()
        node.gateway.redis.subscriber.throttle(False)
        assert await client.data(1) == ["not logged"]
        assert node.gateway.stats.redis_reconnects == reconnects
        assert node.gateway.stats.probes_unheard == 0


@pytest.mark.parametrize("vanishing", ["what the node says", "what Redis says"])
async def test_a_connection_on_which_one_direction_vanishes_is_replaced(
    proxy: Proxy, behind: Node, publisher: AsyncPublisher, vanishing: str
) -> None:
    async with connected(behind.url, make_token("u")) as client:
        link = pubsub_link(proxy)
        (link.up if vanishing == "what the node says" else link.down).freeze()
        await client.send({"type": "subscribe", "channel": CHANNEL})
        await until(lambda: not behind.gateway.ready(), within=UNREADY_SECONDS)
        await client.expect(type="subscribed", channel=CHANNEL)
        await until(behind.gateway.ready, within=UNREADY_SECONDS)
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]


@contextlib.asynccontextmanager
async def ticking(publisher: AsyncPublisher, node: Node) -> AsyncIterator[None]:
    """Meanwhile a message comes every 50 ms."""

    async def tick() -> None:
        for number in count():
            await publisher.publish("ticks/1", number)
            await asyncio.sleep(0.05)

    async with connected(node.url, make_token("v")) as listener:
        await listener.subscribe("ticks/1")
        ticks = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticks.cancel()


async def test_what_still_comes_does_not_hide_that_redis_hears_nothing(
    proxy: Proxy, behind: Node, publisher: AsyncPublisher
) -> None:
    async with connected(behind.url, make_token("u")) as client, ticking(publisher, behind):
        pubsub_link(proxy).up.freeze()
        await client.send({"type": "subscribe", "channel": CHANNEL})
        await until(lambda: not behind.gateway.redis.probe.heard, within=UNREADY_SECONDS)
        await until(behind.gateway.ready, within=1.0)
        await client.expect(type="subscribed", channel=CHANNEL)


async def test_a_former_connection_that_redis_still_knows_does_not_hide_that_it_hears_nothing(
    proxy: Proxy, behind: Node, publisher: AsyncPublisher
) -> None:
    async with ticking(publisher, behind):
        former = pubsub_link(proxy)
        former.vanish()
        former.up.freeze()
        await until(lambda: not behind.gateway.ready(), within=UNREADY_SECONDS)
        await until(behind.gateway.ready, within=UNREADY_SECONDS)
        [present] = [each for each in proxy.links if each.subscribed and each is not former]
        present.up.freeze()
        await until(lambda: not behind.gateway.redis.probe.heard, within=UNREADY_SECONDS)
        await until(behind.gateway.ready, within=1.0)


async def test_after_a_time_in_which_redis_heard_nothing_the_node_is_back_at_once(
    proxy: Proxy, behind: Node, publisher: AsyncPublisher
) -> None:
    async with ticking(publisher, behind):
        proxy.up.swallows = True  # a connection that has lost something stays like that
        await until(lambda: not behind.gateway.ready(), within=UNREADY_SECONDS)
        await asyncio.sleep(BUSY_SECONDS)
        proxy.up.swallows = False
        await until(behind.gateway.ready, within=UNREADY_SECONDS)


async def test_a_probe_that_waits_behind_what_still_comes_costs_no_connection(
    proxy: Proxy, behind: Node, publisher: AsyncPublisher
) -> None:
    """Such as a long burst over a slow way: the node reads all the time, and is not ready."""
    async with ticking(publisher, behind):
        protocol = behind.gateway.redis.subscriber._protocol
        link = pubsub_link(proxy)
        link.down.bytes_per_second = 4_000
        received = behind.gateway.redis.subscriber.received
        # What the proxy has begun to read goes through as one piece.
        await until(lambda: behind.gateway.redis.subscriber.received >= received + 3)
        await publisher.publish("ticks/1", "x" * 30_000)
        await until(lambda: not behind.gateway.ready())
        await asyncio.sleep(BUSY_SECONDS)
        assert not behind.gateway.redis.probe.heard
        link.down.bytes_per_second = None
        await until(behind.gateway.ready)
        assert behind.gateway.redis.subscriber._protocol is protocol


async def test_a_node_under_steady_churn_counts_as_restored(proxy: Proxy, behind: Node) -> None:
    """As soon as all is confirmed that was subscribed to when the connection opened."""
    subscriber = behind.gateway.redis.subscriber
    proxy.up.delay = 0.05

    async def churn() -> None:
        for number in count():
            subscriber.listen(f"churn:{number}", lambda _payload: None)
            if number >= 100:
                subscriber.drop(f"churn:{number - 100}")
            await asyncio.sleep(0.0005)

    churning = asyncio.create_task(churn())
    try:
        await asyncio.sleep(0)
        protocol = subscriber._protocol
        proxy.cut(lambda link: link.subscribed)
        await until(lambda: subscriber._protocol not in {None, protocol})
        await until(lambda: subscriber.connected, within=UNREADY_SECONDS)
        assert subscriber._unanswered
    finally:
        churning.cancel()
