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
import redis.asyncio

from gateway.backplane import health
from gateway.backplane.places import Held, Places
from gateway.node.ports import Claim, Denied
from publisher import AsyncPublisher
from publisher.contract import scripts
from publisher.contract.calls import Call
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node, running_node
from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token
from tests.support.topology import ask_all, one_of
from tests.support.waiting import until


async def taken_by(publisher: AsyncPublisher, conn: str, *places: str) -> None:
    """Let others hold a user's places. At no moment are there none, which the node would take again at once."""
    former = await publisher._client.zrange(conn, 0, -1)
    await publisher._client.zadd(conn, dict.fromkeys(places, soon()))
    await publisher._client.zrem(conn, *former)


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
                assert "close one" in error["detail"]
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
    await publisher._client.zadd(conn, {f"dead-node/{number}": soon() for number in range(5)})
    async with connected(node.url, make_token("u")):
        [held] = await publisher.connections("u")
        assert held.node == node.gateway.node_id


async def test_a_place_that_could_not_be_given_back_is_given_back_later(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(redis_timeout_seconds=0.3, node_lease_seconds=0.6)
    async with connected(node.url, make_token("u")):
        assert len(await publisher.connections("u")) == 1
        await ask_all(publisher._client, "CLIENT", "PAUSE", "1000", "WRITE")

    async def free() -> bool:
        return await publisher.connections("u") == []

    await until(free)
    await until(node.gateway.ready)


async def test_renewing_passes_by_a_handshake_that_is_refused_meanwhile(
    start_node: StartNode,
) -> None:
    node = await start_node(max_connections_per_user=1)
    places = node.gateway.redis.places
    async with connected(node.url, make_token("u")) as client:
        attempts = [asyncio.create_task(places.acquire(Claim("u", f"x{n}"))) for n in range(20)]
        for _ in range(20):
            await places.renew()
        assert await asyncio.gather(*attempts) == [Denied.FULL] * 20
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
        other.gateway.redis.places._held["1"] = Held("u", 1)
        await taken_by(publisher, conn, f"{other.gateway.node_id}/1")
        error = await client.expect(type="error", code="connection_limit")
        assert "close one" in error["detail"]
        assert await client.expect_close() == (1008, "connection_limit")


async def test_after_a_loss_the_oldest_connections_keep_their_places(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    token = make_token("u")
    conn = f"{prefix}:conn:{{u}}"
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(node.url, token)) for _ in range(5)]
        other = await stack.enter_async_context(alive_elsewhere(publisher, prefix))
        await taken_by(publisher, conn, f"{other}/1", f"{other}/2")
        node.gateway.redis.places.recount()
        for client in clients[3:]:
            await client.expect(type="error", code="connection_limit")
            assert await client.expect_close() == (1008, "connection_limit")
        for client in clients[:3]:
            await client.sync()
        assert len(await publisher.connections("u")) == 5


def soon() -> float:
    """An expiry as a lease has it."""
    return time.time() * 1000 + 30_000


@contextlib.asynccontextmanager
async def alive_elsewhere(publisher: AsyncPublisher, prefix: str) -> AsyncIterator[str]:
    """A node of another process, as far as Redis can tell."""
    await publisher._client.zadd(f"{prefix}:nodes", {"elsewhere": soon()})
    yield "elsewhere"


async def test_a_release_that_crosses_a_renewal_leaves_no_place_taken(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    places, conn = node.gateway.redis.places, f"{prefix}:conn:{{u}}"
    for round_ in range(50):
        ids = [f"{round_}-{number}" for number in range(3)]
        assert Denied.FULL not in [await places.acquire(Claim("u", each)) for each in ids]
        await publisher._client.delete(conn)  # so that the renewal takes them again
        await asyncio.gather(
            places.renew(),
            *(leaving(number, places, each) for number, each in enumerate(ids)),
        )
        assert places._held == {}
    await until(lambda: not places.releases)
    assert await publisher.connections("u") == []


async def leaving(turns: int, places: Places, connection: str) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    places.give_back("u", connection)


async def test_a_renewal_answered_after_a_release_leaves_no_place_taken(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two round trips go over two connections: the later one may be carried out first."""
    places = node.gateway.redis.places
    await places.acquire(Claim("u", "x"))
    call, sent, overtaken = places._upkeep.call, asyncio.Event(), asyncio.Event()

    async def late(given: Call) -> Any:
        if given.script is scripts.RENEW:
            sent.set()
            await overtaken.wait()
        return await call(given)

    monkeypatch.setattr(places._upkeep, "call", late)
    renewal = asyncio.create_task(places.renew())
    await sent.wait()
    places.give_back("u", "x")
    await until(lambda: not places.releases)
    assert await publisher.connections("u") == []
    overtaken.set()
    await renewal
    await until(lambda: not places.releases)
    assert await publisher.connections("u") == []
    await places.renew()
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
            await until(lambda: not node.gateway.redis.places.releases)
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
    start_node: StartNode,
    publisher: AsyncPublisher,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others may drop them before it renews its lease; then it finds out with that renewal."""
    monkeypatch.setattr(health, "LONGEST_RENEWAL_SECONDS", 60.0)
    first = await start_node(max_connections_per_user=1, node_lease_seconds=30.0)
    second = await start_node(max_connections_per_user=1)
    async with connected(first.url, make_token("u")) as client:
        await publisher._client.delete(f"{prefix}:nodes")
        # Its own places a node never takes for a dead node's.
        async with opened(first.url, make_token("u")) as refused:
            await refused.expect(type="error", code="connection_limit")
        await client.sync()
        second.gateway.redis.node_lease.recheck()
        await until(second.gateway.ready)
        async with connected(second.url, make_token("u")) as newcomer:
            first.gateway.redis.node_lease.recheck()
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


# -- what nobody holds ------------------------------------------------------------------------


def forgotten(node: Node, count: int) -> dict[str, float]:
    """Places of a node's that it does not know, as a failover brings back what was released."""
    return {f"{node.gateway.node_id}/released-{number}": soon() for number in range(count)}


async def test_places_that_a_failover_brought_back_do_not_keep_their_user_out(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await publisher._client.zadd(f"{prefix}:conn:{{u}}", forgotten(node, 5))
    async with connected(node.url, make_token("u")):
        assert [held.node for held in await publisher.connections("u")] == [node.gateway.node_id]


async def test_places_that_another_node_does_not_know_do_not_keep_their_user_out(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    asked, asking = await start_node(), await start_node()
    token = make_token("u")
    async with connected(asked.url, token) as kept:
        await publisher._client.zadd(f"{prefix}:conn:{{u}}", forgotten(asked, 4))
        async with connected(asking.url, token):
            nodes = [held.node for held in await publisher.connections("u")]
            assert sorted(nodes) == sorted([asked.gateway.node_id, asking.gateway.node_id])
        await kept.sync()


async def test_other_nodes_are_not_asked_again_and_again(
    start_node: StartNode, redis_url: str
) -> None:
    """Whoever tries at the limit again and again costs the other nodes nothing."""
    holder, asking = await start_node(), await start_node()
    token = make_token("u")
    async with (
        redis.asyncio.Redis.from_url(one_of(redis_url)) as one,
        one.pubsub() as control,
        contextlib.AsyncExitStack() as stack,
    ):
        await control.subscribe(holder.gateway.redis.keys.control)
        for _ in range(5):
            await stack.enter_async_context(connected(holder.url, token))
        for _ in range(10):
            async with opened(asking.url, token) as sixth:
                await sixth.expect(type="error", code="connection_limit")
        await one.publish(holder.gateway.redis.keys.control, "the last")
        heard = []
        async for message in control.listen():
            if message["type"] == "message":
                heard.append(message["data"])
                if message["data"] == b"the last":
                    break
        assert len(heard) == 2


async def test_a_renewal_removes_what_its_node_does_not_hold_and_nothing_else(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    conn = f"{prefix}:conn:{{u}}"
    async with connected(node.url, make_token("u")) as client:
        await publisher._client.zadd(conn, forgotten(node, 3) | {"elsewhere/1": soon()})
        await node.gateway.redis.places.renew()
        await until(lambda: not node.gateway.redis.places.releases)
        members = await publisher._client.zrange(conn, 0, -1)
        nodes = sorted(member.decode().rpartition("/")[0] for member in members)
        assert nodes == sorted(["elsewhere", node.gateway.node_id])
        await client.sync()


async def test_a_place_taken_while_a_renewal_is_under_way_is_kept(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two round trips go over two connections: the renewal, which was made up first, may come second."""
    places = node.gateway.redis.places
    await places.acquire(Claim("u", "x"))
    call, sent, overtaken = places._upkeep.call, asyncio.Event(), asyncio.Event()

    async def late(given: Call) -> Any:
        if given.script is scripts.RENEW:
            sent.set()
            await overtaken.wait()
        return await call(given)

    monkeypatch.setattr(places._upkeep, "call", late)
    renewal = asyncio.create_task(places.renew())
    await sent.wait()
    await places.acquire(Claim("u", "y"))
    taking = asyncio.create_task(places.acquire(Claim("u", "z")))
    overtaken.set()
    await renewal
    await taking
    await until(lambda: not places.releases)
    assert sorted(held.id for held in await publisher.connections("u")) == ["x", "y", "z"]


async def test_one_users_broken_key_keeps_no_node_unready(
    node: Node, publisher: AsyncPublisher, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    places, client = node.gateway.redis.places, publisher._client
    async with connected(node.url, make_token("u")) as broken, connected(node.url, make_token("v")):
        await client.delete(f"{prefix}:conn:{{u}}")
        await client.set(f"{prefix}:conn:{{u}}", "no sorted set")
        [before] = await client.zrange(f"{prefix}:conn:{{v}}", 0, -1, withscores=True)
        for _ in range(2):
            places.recount()
            await until(lambda: places.settled, within=1.0)
        [after] = await client.zrange(f"{prefix}:conn:{{v}}", 0, -1, withscores=True)
        assert after[1] > before[1]
        await broken.sync()
        refusals = [each for each in caplog.records if "places_refused" in each.getMessage()]
        assert len(refusals) == 1
        assert "'u'" in refusals[0].getMessage()
    await until(lambda: not places.releases)


# -- what a clock can do ----------------------------------------------------------------------

HOUR_MS = 3_600_000


async def test_places_and_leases_from_a_clock_that_was_ahead_do_not_last(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """A node died while the clock of Redis was an hour ahead; then the clock was set right."""
    node = await start_node(node_lease_seconds=1.0)
    client = publisher._client
    ahead = soon() + HOUR_MS
    await client.zadd(f"{prefix}:nodes", {"died": ahead, "/grace": ahead, "/beat": ahead})
    await client.zadd(f"{prefix}:conn:{{u}}", {f"died/{number}": ahead for number in range(5)})
    await client.zadd(f"{prefix}:conn:{{v}}", {f"died/{number}": ahead for number in range(2)})

    async def let_in(user: str) -> bool:
        async with opened(node.url, make_token(user)) as client:
            return bool((await client.receive())["type"] == "connected")

    await until(lambda: let_in("u"))
    # Of a user below the limit they are cut to an ordinary lease when the places are next renewed.
    async with connected(node.url, make_token("v")):
        await node.gateway.redis.places.renew()
        places = await client.zrange(f"{prefix}:conn:{{v}}", 0, -1, withscores=True)
        assert len(places) == 3
        assert all(expiry < soon() + 180_000 for _, expiry in places)


async def test_a_clock_that_jumps_ahead_costs_no_living_node_its_places(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """All leases run out at once; the next renewal of the node's lease notices that."""
    node = await start_node(node_lease_seconds=1.0)
    client, conn = publisher._client, f"{prefix}:conn:{{u}}"
    async with connected(node.url, make_token("u")) as held:
        past = time.time() * 1000 - HOUR_MS
        [member] = await client.zrange(conn, 0, -1)
        await client.zadd(conn, {member: past})
        await client.zadd(f"{prefix}:nodes", {node.gateway.node_id: past, "/beat": past})

        async def back() -> bool:
            return await client.zscore(conn, member) > past

        await until(back)
        await until(node.gateway.ready)
        await held.sync()


# -- a node that is cut off -------------------------------------------------------------------


@pytest.mark.one_server("sentinels would lead past the proxy before it")
async def test_a_node_that_was_cut_off_beyond_its_lease_gives_up_what_others_took_meanwhile(
    start_node: StartNode, redis_url: str, prefix: str, publisher: AsyncPublisher
) -> None:
    """Until it is back a user may hold five here and five there; then five are five again."""
    node = await start_node()
    token = make_token("u")
    proxy = Proxy(int(redis_url.rpartition(":")[2]))
    await proxy.start()
    async with (
        contextlib.aclosing(proxy),
        running_node(f"redis://127.0.0.1:{proxy.port}", prefix, node_lease_seconds=0.6) as cut_off,
        contextlib.AsyncExitStack() as stack,
    ):
        olds = [await stack.enter_async_context(connected(cut_off.url, token)) for _ in range(5)]
        proxy.refuse()
        name = cut_off.gateway.node_id.encode()
        living = node.gateway.redis.places._table.living()

        async def given_up() -> bool:
            return name not in await node.gateway.redis.pipeline.call(living)

        await until(given_up)
        news = [await stack.enter_async_context(connected(node.url, token)) for _ in range(5)]
        assert len(cut_off.gateway.hub.connections) == 5
        assert not cut_off.gateway.ready()
        await proxy.start()
        for client in olds:
            await client.expect(type="error", code="connection_limit")
            assert await client.expect_close() == (1008, "connection_limit")
        for client in news:
            await client.sync()
        assert len(await publisher.connections("u")) == 5
