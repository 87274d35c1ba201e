"""A token from the moment at which it is shown to its end."""

from __future__ import annotations

import asyncio
import time

from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.nodes import running_node
from tests.support.tokens import make_token
from tests.support.waiting import until


async def test_a_client_is_told_that_its_token_ends_soon_and_keeps_its_connection_with_another_one(
    start_node: StartNode,
) -> None:
    node = await start_node(jwt_leeway_seconds=0, token_expiring_seconds=30)
    ends_at = int(time.time()) + 3
    async with connected(node.url, make_token("ann", exp=ends_at)) as client:
        await client.expect(type="token_expiring", expiresAt=ends_at * 1000)
        await client.send({"type": "refresh", "token": make_token("ann")})
        (connection,) = node.gateway.hub.connections.values()
        await until(lambda: (connection.identity.expires_at or 0) > ends_at + 60)
        await client.sync()
    assert "gateway_tokens_expiring_total 1.0" in (await node.get("/metrics"))[1]


async def test_a_client_that_has_no_other_token_is_closed_with_the_old_one(
    start_node: StartNode,
) -> None:
    node = await start_node(jwt_leeway_seconds=0, token_expiring_seconds=1)
    async with connected(node.url, make_token("ann", exp=int(time.time()) + 2)) as client:
        await client.expect(type="token_expiring")
        await client.expect(type="error", code="token_expired")
        assert await client.expect_close() == (1008, "token_expired")


async def test_the_leeway_is_no_part_of_what_is_told(start_node: StartNode) -> None:
    node = await start_node(jwt_leeway_seconds=300)
    ends_at = int(time.time()) + 3
    async with connected(node.url, make_token("ann", exp=ends_at)) as client:
        await client.expect(type="token_expiring", expiresAt=ends_at * 1000)


async def test_a_token_that_lives_longer_than_tokens_may_lets_nobody_in(
    start_node: StartNode,
) -> None:
    node = await start_node(jwt_max_lifetime_seconds=600)
    now = int(time.time())
    async with connected(node.url, make_token("ann", iat=now, exp=now + 600)) as client:
        await client.send({"type": "refresh", "token": make_token("ann", iat=now, exp=now + 700)})
        await client.expect(type="error", code="token_invalid")
    async with opened(node.url, make_token("ann", iat=now, exp=now + 700)) as client:
        await client.expect(type="error", code="token_invalid")
        assert await client.expect_close() == (1008, "token_invalid")


async def test_patterns_in_a_token_open_no_channel_where_they_are_switched_off(
    start_node: StartNode,
) -> None:
    node = await start_node(jwt_channel_patterns=False)
    token = make_token("ann", channels=["run-results/*", "run-results/named"])
    async with connected(node.url, token) as client:
        await client.send({"type": "subscribe", "channel": "run-results/other"})
        await client.expect(type="error", code="forbidden")
        await client.send({"type": "subscribe", "channel": "run-results/named"})
        await client.expect(type="subscribed")


async def test_a_token_that_ends_before_redis_has_given_its_place_lets_nobody_in(
    proxy: Proxy, prefix: str, publisher: AsyncPublisher
) -> None:
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running_node(url, prefix, redis_timeout_seconds=30, jwt_leeway_seconds=0) as node:
        proxy.down.freeze()
        ends = int(time.time()) + 2
        opening = asyncio.create_task(_told(node.url, make_token("ann", exp=ends)))
        await until(lambda: time.time() > ends)
        proxy.down.thaw()
        assert await opening == ("token_expired", (1008, "token_expired"))
        await until(lambda: _has_no_place(publisher, "ann"))


async def _told(url: str, token: str) -> tuple[str, tuple[int, str]]:
    """The code of the first message, and how the connection is closed."""
    async with opened(url, token) as client:
        return (await client.receive())["code"], await client.expect_close()


async def _has_no_place(publisher: AsyncPublisher, user: str) -> bool:
    return not await publisher.connections(user)
