"""Five connections a user means five, on all nodes together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.backplane.places import Leases
from publisher import AsyncPublisher
from publisher.contract import scripts
from publisher.contract.calls import Call
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node, running_node
from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer
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


async def test_after_a_loss_the_oldest_connections_keep_their_places(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    token = make_token("u")
    conn = f"{prefix}:conn:{{u}}"
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(node.url, token)) for _ in range(5)]
        other = await stack.enter_async_context(alive_elsewhere(publisher, prefix))
        await publisher._client.delete(conn)
        await publisher._client.zadd(conn, {f"{other}/1": 9e12, f"{other}/2": 9e12})
        node.gateway._leases.restore()
        for client in clients[3:]:
            await client.expect(type="error", code="connection_limit")
            assert await client.expect_close() == (1008, "connection_limit")
        for client in clients[:3]:
            await client.sync()
        assert len(await publisher.connections("u")) == 5


@contextlib.asynccontextmanager
async def alive_elsewhere(publisher: AsyncPublisher, prefix: str) -> AsyncIterator[str]:
    """A node of another process, as far as Redis can tell."""
    await publisher._client.zadd(f"{prefix}:nodes", {"elsewhere": 9e12})
    yield "elsewhere"


async def test_a_release_that_crosses_a_renewal_leaves_no_place_taken(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    leases, conn = node.gateway._leases, f"{prefix}:conn:{{u}}"
    for round_ in range(50):
        ids = [f"{round_}-{number}" for number in range(3)]
        assert all([await leases.acquire("u", each) for each in ids])
        await publisher._client.delete(conn)  # so that the renewal takes them again
        await asyncio.gather(
            leases.renew(),
            *(leaving(number, leases, each) for number, each in enumerate(ids)),
        )
        assert leases._held == {}
    await until(lambda: not leases._owed)
    assert await publisher.connections("u") == []


async def leaving(turns: int, leases: Leases, connection: str) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    leases.give_back("u", connection)


async def test_a_renewal_answered_after_a_release_leaves_no_place_taken(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two round trips go over two connections: the later one may be carried out first."""
    leases = node.gateway._leases
    assert await leases.acquire("u", "x")
    call, sent, overtaken = leases._upkeep.call, asyncio.Event(), asyncio.Event()

    async def late(given: Call) -> Any:
        if given.script is scripts.RENEW:
            sent.set()
            await overtaken.wait()
        return await call(given)

    monkeypatch.setattr(leases._upkeep, "call", late)
    renewal = asyncio.create_task(leases.renew())
    await sent.wait()
    leases.give_back("u", "x")
    await until(lambda: not leases._owed)
    assert await publisher.connections("u") == []
    overtaken.set()
    await renewal
    await until(lambda: not leases._owed)
    assert await publisher.connections("u") == []
    await leases.renew()
    assert await publisher.connections("u") == []


async def test_a_place_taken_by_a_redis_that_woke_up_too_late_is_given_back(
    tmp_path: Path, prefix: str
) -> None:
    server = RedisServer(tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with (
            running_node(server.url, prefix, redis_timeout_seconds=0.3) as node,
            AsyncPublisher.from_url(server.url, prefix=prefix) as publisher,
        ):
            async with connected(node.url, make_token("u")):
                pass  # Redis knows the scripts by now
            server.freeze()
            attempts = [
                asyncio.create_task(handshake_status(node.url, make_token("u"))) for _ in range(5)
            ]
            assert await asyncio.gather(*attempts) == [503] * 5
            server.thaw()
            await until(node.gateway.ready)

            async def free() -> bool:
                return await publisher.connections("u") == []

            await until(free)
            await until(lambda: not node.gateway._leases._owed)
            assert await free()
    finally:
        await asyncio.to_thread(server.stop)


async def handshake_status(url: str, token: str) -> int:
    try:
        async with opened(url, token):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def test_a_living_node_that_redis_has_forgotten_gets_its_places_back(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """The others may drop them before its next beat; then it finds out with that beat."""
    first = await start_node(max_connections_per_user=1, node_lease_seconds=30.0)
    second = await start_node(max_connections_per_user=1)
    async with connected(first.url, make_token("u")) as client:
        await publisher._client.delete(f"{prefix}:nodes")
        # Its own places a node never takes for a dead node's.
        async with opened(first.url, make_token("u")) as refused:
            await refused.expect(type="error", code="connection_limit")
        await client.sync()
        second.gateway._node_lease.recheck()
        await until(second.gateway.ready)
        async with connected(second.url, make_token("u")) as newcomer:
            first.gateway._node_lease.recheck()
            await client.expect(type="error", code="connection_limit")
            assert await client.expect_close() == (1008, "connection_limit")
            await newcomer.sync()
            [held] = await publisher.connections("u")
            assert held.node == second.gateway.node_id


async def test_a_node_frozen_beyond_its_lease_takes_part_again_without_breaking_the_limit(
    start_node: StartNode, publisher: AsyncPublisher, redis_url: str, prefix: str
) -> None:
    node = await start_node()
    token = make_token("u")
    async with (
        gateway_process(redis_url, prefix, node_lease_seconds=1.0) as frozen,
        contextlib.AsyncExitStack() as stack,
    ):
        olds = [await stack.enter_async_context(connected(frozen.url, token)) for _ in range(5)]
        frozen.freeze()

        async def dead() -> bool:
            alive = await publisher._client.zrangebyscore(
                f"{prefix}:nodes", f"({time.time() * 1000}", "+inf"
            )
            return alive == [node.gateway.node_id.encode()]

        await until(dead)
        news = [await stack.enter_async_context(connected(node.url, token)) for _ in range(3)]
        frozen.thaw()
        # All its places were dropped when the first newcomer asked; there is room for two.
        for client in olds[2:]:
            await client.expect(type="error", code="connection_limit")
            assert await client.expect_close() == (1008, "connection_limit")
        for client in olds[:2] + news:
            await client.sync()
        assert len(await publisher.connections("u")) == 5
        async with opened(frozen.url, token) as sixth:
            await sixth.expect(type="error", code="connection_limit")
