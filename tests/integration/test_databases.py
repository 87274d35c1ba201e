"""A node serves the users of its own database, and of no other."""

from __future__ import annotations

from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import running_node
from tests.support.tokens import make_token
from tests.support.topology import on_database

CHANNEL = "notifications/u"


async def test_databases_of_one_redis_are_systems_of_their_own(
    redis_url: str, prefix: str, start_node: StartNode, publisher: AsyncPublisher
) -> None:
    one = on_database(redis_url, 1)
    node = await start_node()
    async with (
        running_node(one, prefix) as node_of_one,
        AsyncPublisher.from_url(one, prefix=prefix) as publisher_of_one,
        connected(node.url, make_token("u")) as client,
        connected(node_of_one.url, make_token("u")) as client_of_one,
    ):
        await client.subscribe(CHANNEL)
        await client_of_one.subscribe(CHANNEL)
        await publisher_of_one.publish(CHANNEL, "live of 1")
        await publisher.publish(CHANNEL, "live of 0")
        assert await client_of_one.data(1) == ["live of 1"]
        assert await client.data(1) == ["live of 0"]
        await publisher_of_one.grant("run-results/s", "u")
        await client_of_one.subscribe("run-results/s")
        await publisher_of_one.revoke("run-results/s", "u")
        await client_of_one.expect(type="unsubscribed", reason="revoked")
    await publisher.publish(CHANNEL, "missed of 0")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(1) == ["missed of 0"]
