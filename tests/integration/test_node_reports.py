"""What nodes say of themselves, as backends and operators read it."""

from __future__ import annotations

from publisher import AsyncPublisher, Node, NodeReport
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import until


async def test_each_node_tells_what_it_holds(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    first = await start_node(node_lease_seconds=0.6, max_connections=7)
    second = await start_node(node_lease_seconds=0.6)

    async def reports() -> dict[str, NodeReport]:
        found = await publisher.nodes()
        return {each.name: each.report for each in found if each.report is not None}

    async def both() -> bool:
        return all(each.ready for each in (await reports()).values()) and len(await reports()) == 2

    await until(both)
    async with connected(first.url, make_token("u")) as client:
        await client.subscribe("notifications/u")

        async def seen() -> bool:
            told = (await reports())[first.gateway.node_id]
            return (told.connections, told.subscriptions, told.channels) == (1, 1, 1)

        await until(seen)
        told = await reports()
        assert told[first.gateway.node_id].connections_limit == 7
        assert told[second.gateway.node_id].connections == 0
        assert not told[second.gateway.node_id].draining
        await publisher.publish("notifications/u", 1)

        async def counted() -> bool:
            return (await reports())[first.gateway.node_id].received_per_second > 0

        await until(counted)


async def test_a_node_that_has_ended_is_not_told_of(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node()

    async def reported() -> bool:
        return [each.report is not None for each in await publisher.nodes()] == [True]

    await until(reported)
    await node.gateway.stop()
    assert await publisher.nodes() == []
    assert await publisher._client.exists(keys(prefix).node(node.gateway.node_id)) == 0


async def test_a_living_node_that_says_nothing_is_listed(
    publisher: AsyncPublisher, prefix: str
) -> None:
    await publisher._client.zadd(keys(prefix).nodes, {"silent": 9_000_000_000_000, "strange": 9e12})
    for report in ("no JSON", "[1]", '{"version": "9"}'):
        await publisher._client.set(keys(prefix).node("strange"), report)
        assert await publisher.nodes() == [Node("silent", None), Node("strange", None)]
