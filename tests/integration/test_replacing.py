"""The policy at the limit of connections: the newest comes in, and the oldest of the user ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backplane.places import Held
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

POLICY: dict[str, Any] = {"connection_limit_policy": "replace_oldest"}
TOKEN = make_token("u")


class Tabs:
    """The tabs of a user, in the order in which they came."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self.clients: list[Client] = []

    async def open(self, node: Node) -> Client:
        client = await self._stack.enter_async_context(connected(node.url, TOKEN))
        self.clients.append(client)
        return client

    async def oldest_ends(self) -> None:
        """It is told why, and nobody else is."""
        oldest = self.clients.pop(0)
        error = await oldest.expect(type="error", code="replaced")
        assert "by yourself" in error["detail"]
        assert await oldest.expect_close() == (1008, "replaced")
        for each in self.clients:
            await each.sync()


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with contextlib.AsyncExitStack() as stack:
        yield Tabs(stack)


async def held(publisher: AsyncPublisher) -> int:
    return len(await publisher.connections("u"))


async def test_over_two_nodes_the_oldest_gives_way_ten_times_in_a_minute_and_then_the_newest_is_refused(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs
) -> None:
    nodes = [await start_node(**POLICY), await start_node(**POLICY)]
    for number in range(5):
        await tabs.open(nodes[number % 2])
    for number in range(10):
        await tabs.open(nodes[number % 2])
        await tabs.oldest_ends()
        assert await held(publisher) == 5
    async with opened(nodes[0].url, TOKEN) as refused:
        await refused.expect(type="error", code="connection_limit")
        assert await refused.expect_close() == (1008, "connection_limit")
    for each in tabs.clients:
        await each.sync()
    assert await held(publisher) == 5
    ended = [node.gateway.stats.revocations["replaced"] for node in nodes]
    assert sum(ended) == 10
    # The renewals give back nothing that is somebody's, and take nothing for who has gone.
    for node in nodes:
        await node.gateway.redis.places.renew()
    assert await held(publisher) == 5


async def test_after_the_minute_the_oldest_gives_way_again(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, prefix: str
) -> None:
    node = await start_node(**POLICY, max_connections_per_user=1, replacements_per_minute=1)
    await tabs.open(node)
    await tabs.open(node)
    await tabs.oldest_ends()
    counted = topology.keys(prefix).replaced("u")
    assert 0 < await publisher._client.pttl(counted) <= 60_000
    await publisher._client.delete(counted)
    await tabs.open(node)
    await tabs.oldest_ends()


async def test_other_users_are_no_ones_oldest(start_node: StartNode, tabs: Tabs) -> None:
    node = await start_node(**POLICY, max_connections_per_user=1)
    async with connected(node.url, make_token("v")) as other:
        await tabs.open(node)
        await tabs.open(node)
        await tabs.oldest_ends()
        await other.sync()


async def test_a_dead_nodes_place_goes_before_a_living_one(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, prefix: str
) -> None:
    node = await start_node(**POLICY, max_connections_per_user=2)
    await tabs.open(node)
    keys = topology.keys(prefix)
    later = time.time_ns() // 1_000 + 60_000_000
    await publisher._client.zadd(keys.connections("u"), {"dead/1": time.time() * 1000 + 60_000})
    await publisher._client.zadd(keys.entered("u"), {"dead/1": later})
    await tabs.open(node)
    for each in tabs.clients:
        await each.sync()
    assert not node.gateway.stats.revocations
    await node.gateway.redis.places.renew()
    assert await publisher._client.zscore(keys.entered("u"), "dead/1") is None


async def test_a_connection_of_a_node_that_does_not_say_when_it_came_counts_as_the_oldest(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, prefix: str
) -> None:
    """One of an earlier version, or one from before the policy was set."""
    earlier, node = await start_node(), await start_node(**POLICY, max_connections_per_user=2)
    first = await tabs.open(node)
    async with connected(earlier.url, TOKEN) as silent:
        await tabs.open(node)
        await first.sync()
        # That node knows the command, so it is carried out there too.
        await silent.expect(type="error", code="replaced")


async def test_who_was_replaced_unheard_ends_at_the_next_renewal(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start_node(**POLICY, max_connections_per_user=1)
    other = await start_node(**POLICY, max_connections_per_user=1)
    await tabs.open(one)
    monkeypatch.setattr(one.gateway.access.control, "_revocations", None)
    monkeypatch.setattr(
        one.gateway.access.revocations, "_of_user", type("", (), {"of": lambda *_: []})()
    )
    await tabs.open(other)
    renewal = asyncio.create_task(one.gateway.redis.places.renew())
    await tabs.oldest_ends()
    await renewal
    assert await held(publisher) == 1


async def test_a_renewal_takes_no_place_from_anybody(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(**POLICY, max_connections_per_user=1)
    async with connected(node.url, TOKEN) as client:
        places = node.gateway.redis.places
        places._held["lost"] = Held("u", 1)  # without a place, as after a loss
        await places.renew()
        await client.sync()
        places._held.pop("lost")


async def test_a_handshake_whose_place_is_taken_before_it_begins_is_told_so(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start_node(**POLICY, max_connections_per_user=1)
    other = await start_node(**POLICY, max_connections_per_user=1)
    acquire, taken, go = one.gateway.redis.places.acquire, asyncio.Event(), asyncio.Event()

    async def late(*how: Any) -> Any:
        entry = await acquire(*how)
        taken.set()
        await go.wait()
        return entry

    monkeypatch.setattr(one.gateway.redis.places, "acquire", late)

    async def come() -> None:
        async with opened(one.url, TOKEN) as client:
            await client.expect(type="error", code="replaced")
            assert await client.expect_close() == (1008, "replaced")

    coming = asyncio.create_task(come())
    await taken.wait()
    mark = one.gateway.access.revocations.mark
    await tabs.open(other)
    await until(lambda: one.gateway.access.revocations.mark > mark)
    go.set()
    await coming
    await until(lambda: not one.gateway.redis.places.releases)
    assert await held(publisher) == 1


async def test_nothing_is_left_of_who_has_gone(
    start_node: StartNode, publisher: AsyncPublisher, tabs: Tabs, prefix: str
) -> None:
    node = await start_node(**POLICY)
    client = await tabs.open(node)
    keys = topology.keys(prefix)
    assert await publisher._client.zcard(keys.entered("u")) == 1
    await client.close()

    async def gone() -> bool:
        names = keys.entered("u"), keys.connections("u")
        return not any([await publisher._client.exists(each) for each in names])

    await until(gone)
