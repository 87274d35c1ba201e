"""Five connections a user means five, on all nodes together."""

from __future__ import annotations

import asyncio
import contextlib

from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until


async def test_the_sixth_connection_is_refused_on_whichever_node(start_node: StartNode) -> None:
    nodes = [await start_node(), await start_node()]
    token = make_token("u")
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(nodes[number % 2].url, token))
            for number in range(5)
        ]
        for node in nodes:
            async with opened(node.url, token) as sixth:
                error = await sixth.expect(type="error", code="connection_limit")
                assert "5" in error["detail"]
                assert await sixth.expect_close() == (1008, "connection_limit")
        async with connected(nodes[0].url, make_token("v")):
            pass
        await clients[0].close()
        await stack.enter_async_context(connected(nodes[1].url, token))


async def test_exactly_five_of_many_that_come_at_once_are_let_in(start_node: StartNode) -> None:
    nodes = [await start_node(), await start_node()]
    token = make_token("u")

    async def attempt(stack: contextlib.AsyncExitStack, number: int) -> str:
        client: Client = await stack.enter_async_context(opened(nodes[number % 2].url, token))
        return str((await client.receive())["type"])

    async with contextlib.AsyncExitStack() as stack:
        answers = await asyncio.gather(*(attempt(stack, number) for number in range(20)))
        assert sorted(answers) == ["connected"] * 5 + ["error"] * 15


async def test_a_lost_connection_frees_its_place_at_once(node: Node) -> None:
    token = make_token("u")
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(node.url, token)) for _ in range(5)]
        connection = clients[0].socket._conn
        assert connection is not None and connection.transport is not None
        connection.transport.abort()
        await until(lambda: len(node.gateway.hub.connections) == 4)
        async with connected(node.url, token):
            pass


async def test_a_node_that_leaves_in_order_frees_its_places(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    leaving, staying = await start_node(), await start_node()
    token = make_token("u")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(leaving.url, token))
        assert len(await publisher.connections("u")) == 5
        await leaving.gateway.stop()
        assert await publisher.connections("u") == []
        async with connected(staying.url, token):
            pass


async def test_places_of_a_node_that_died_are_free_once_its_lease_is_over(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node()
    conn = f"{prefix}:conn:{{u}}"
    await publisher._client.zadd(conn, {f"dead-node/{number}": 9e12 for number in range(5)})
    async with connected(node.url, make_token("u")):
        [held] = await publisher.connections("u")
        assert held.node == node.gateway.node_id


async def test_a_place_that_could_not_be_given_back_is_given_back_later(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(redis_timeout_seconds=0.3, node_lease_seconds=0.6)
    async with connected(node.url, make_token("u")):
        assert len(await publisher.connections("u")) == 1
        await publisher._client.execute_command("CLIENT", "PAUSE", "1000", "WRITE")

    async def free() -> bool:
        return await publisher.connections("u") == []

    await until(free)
    await until(node.gateway.ready)


async def test_renewing_passes_by_a_handshake_that_is_refused_meanwhile(
    start_node: StartNode,
) -> None:
    node = await start_node(max_connections_per_user=1)
    leases = node.gateway._leases
    async with connected(node.url, make_token("u")) as client:
        attempts = [asyncio.create_task(leases.acquire("u", f"x{n}")) for n in range(20)]
        for _ in range(20):
            await leases.renew()
        assert await asyncio.gather(*attempts) == [False] * 20
        await client.sync()


async def test_leases_are_renewed_while_a_connection_lasts(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(connection_lease_seconds=0.6)
    async with connected(node.url, make_token("u")) as client:
        [first] = await publisher.connections("u")

        async def renewed() -> bool:
            held = await publisher.connections("u")
            return bool(held) and held[0].lease_expires_at > first.lease_expires_at + 600

        await until(renewed)
        await client.sync()


async def test_a_connection_whose_place_was_lost_takes_it_again_or_ends(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(connection_lease_seconds=0.6, max_connections_per_user=1)
    conn = f"{prefix}:conn:{{u}}"
    async with connected(node.url, make_token("u")) as client:
        await publisher._client.delete(conn)

        async def back() -> bool:
            return len(await publisher.connections("u")) == 1

        await until(back)
        await client.sync()
        # Somebody alive has taken the place meanwhile.
        other = await start_node()
        await publisher._client.delete(conn)
        await publisher._client.zadd(conn, {f"{other.gateway.node_id}/1": 9e12})
        await client.expect(type="error", code="connection_limit")
        assert await client.expect_close() == (1008, "connection_limit")
