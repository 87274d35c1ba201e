"""A node on a Redis Cluster whose primaries have no replicas: what it does while one of them is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from redis.exceptions import RedisError

from gateway.backplane import places
from gateway.backplane.hearing import ClusterHearing
from publisher import AsyncPublisher
from publisher.contract.events import UNCONFIRMED
from publisher.contract.keys import Keys
from publisher.contract.rights import of_a_gateway
from publisher.transport.cluster import slot_of
from tests.support.client import connected, opened
from tests.support.nodes import Node, running_node
from tests.support.redis_cluster import ClusterServer, RedisCluster
from tests.support.requests import answer_to, handshake
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = pytest.mark.thorough("cluster")

LEASE_SECONDS = 2.0
HANGING_SECONDS = 4.0
"""Longer than a node may go without its probe."""


@pytest.fixture
def cluster_options() -> dict[str, Any]:
    return {"replicated": False}


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, sharded=True)


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return asyncio.to_thread(work, *arguments)


def has(cluster: RedisCluster, key: str) -> Any:
    """The primary that has a key, to be awaited."""
    return in_thread(cluster.owner, slot_of(key))


async def user_away_from(cluster: RedisCluster, keys: Keys, server: ClusterServer) -> str:
    """A user none of whose keys are at this server."""
    for user in map("u{}".format, count()):
        names = keys.connections(user), keys.log(f"notifications/{user}")
        if all([await has(cluster, name) is not server for name in names]):
            return user
    raise AssertionError


def address(server: ClusterServer) -> str:
    return f"127.0.0.1:{server.port}"


def hearing(node: Node) -> ClusterHearing:
    it = node.gateway.redis.hearing
    assert isinstance(it, ClusterHearing)
    return it


async def members(server: ClusterServer, key: str) -> list[str]:
    """What is in a sorted set; nothing while the server finds its place in the cluster again."""
    with contextlib.suppress(RedisError):
        return list(await in_thread(server.run, "ZRANGE", key, 0, -1))
    return []


async def test_a_node_that_starts_while_the_list_of_nodes_is_away_serves_the_others(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    lost = await has(cluster, keys.nodes)
    user = await user_away_from(cluster, keys, lost)
    # Publishers of before know the namespaces, wherever they are.
    async with AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher:
        await publisher.publish(f"notifications/{user}", 0)
        await in_thread(lost.kill)
        began = asyncio.get_running_loop().time()
        async with running_node(cluster.url, prefix, node_lease_seconds=LEASE_SECONDS) as node:
            assert asyncio.get_running_loop().time() - began > LEASE_SECONDS / 2
            status, body = await node.get("/readyz")
            assert status == 200
            assert json.loads(body)["redis"][address(lost)] == "down"
            assert "gateway_redis_primaries_down 1.0" in (await node.get("/metrics"))[1]
            async with connected(node.url, make_token(user)) as client:
                await client.subscribe(f"notifications/{user}", since=0)
                assert await client.data(1) == [0]
                await publisher.publish(f"notifications/{user}", 1)
                assert await client.data(1) == [1]
                await in_thread(lost.restart)

                async def listed() -> bool:
                    return node.gateway.node_id in await members(lost, keys.nodes)

                await until(listed)
                await until(lambda: all(hearing(node).servers().values()) and node.gateway.ready())
                await client.sync()


async def test_while_the_list_of_nodes_is_away_a_sixth_connection_is_told_of_the_limit(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    lost = await has(cluster, keys.nodes)
    token = make_token(await user_away_from(cluster, keys, lost))
    async with running_node(cluster.url, prefix) as node, contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(connected(node.url, token))
        await in_thread(lost.kill)
        await until(lambda: not hearing(node).servers()[address(lost)])
        await until(node.gateway.ready)
        async with opened(node.url, token) as sixth:
            await sixth.expect(type="error", code="connection_limit")


async def test_places_of_a_primary_that_comes_back_without_them_are_taken_again_at_once(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    for away in cluster.servers:
        for user in map("u{}".format, count()):
            if await has(cluster, keys.connections(user)) is away:
                break
        async with running_node(cluster.url, prefix) as node:
            async with connected(node.url, make_token(user)) as client:
                await in_thread(away.kill)
                await until(lambda away=away, node=node: not hearing(node).servers()[address(away)])
                await in_thread(away.restart)

                async def taken(away: ClusterServer = away, user: str = user) -> bool:
                    return len(await members(away, keys.connections(user))) == 1

                await until(taken)
                await until(node.gateway.ready)
                await client.sync()


async def test_places_of_a_primary_that_comes_back_without_them_are_taken_again_while_the_list_of_nodes_is_away(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    lists = await has(cluster, keys.nodes)
    user = await user_away_from(cluster, keys, lists)
    away = await has(cluster, keys.connections(user))
    async with running_node(cluster.url, prefix) as node:
        async with connected(node.url, make_token(user)) as client:
            await in_thread(lists.kill)
            await until(lambda: not hearing(node).servers()[address(lists)])
            await in_thread(away.kill)
            await until(lambda: not hearing(node).servers()[address(away)])
            await in_thread(away.restart)

            async def taken() -> bool:
                return len(await members(away, keys.connections(user))) == 1

            await until(taken)
            await until(node.gateway.ready)
            await client.sync()


async def test_with_most_primaries_away_a_node_is_not_ready_and_with_most_back_it_is(
    cluster: RedisCluster, prefix: str
) -> None:
    first, second, _ = cluster.servers
    async with running_node(cluster.url, prefix) as node:
        await in_thread(first.kill)
        await until(lambda: list(hearing(node).servers().values()).count(False) == 1)
        await until(node.gateway.ready)
        await in_thread(second.kill)
        # The connection for commands may be lost before that of the primary's channels.
        await until(lambda: not hearing(node).servers()[address(second)])
        status, body = await node.get("/readyz")
        assert status == 503
        assert json.loads(body)["redis"][address(second)] == "down"
        refused = await answer_to(node.url, handshake(make_token("u")))
        assert (refused.status, refused.code) == (503, "not_ready")
        await in_thread(second.restart)
        await until(node.gateway.ready)


async def test_whose_places_are_at_a_primary_that_is_away_is_told_so_by_a_node_that_is_ready(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    lost = await has(cluster, keys.connections("u"))
    other = await user_away_from(cluster, keys, lost)
    async with running_node(cluster.url, prefix) as node:
        await in_thread(lost.kill)
        await until(lambda: not hearing(node).servers()[address(lost)])
        await until(node.gateway.ready)
        refused = await answer_to(node.url, handshake(make_token("u")))
        assert (refused.status, refused.code) == (503, "redis_unavailable")
        async with connected(node.url, make_token(other)) as client:
            await client.sync()


async def test_the_log_names_the_primary_that_is_waited_for_and_the_one_that_is_reached(
    cluster: RedisCluster, prefix: str, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lost = await has(cluster, keys.nodes)
    async with running_node(cluster.url, prefix):
        assert f"redis_reached address={address(lost)}" in caplog.messages
        await in_thread(lost.kill)
        waiting = f"waiting_for_redis address={address(lost)} reason="
        await until(lambda: any(each.startswith(waiting) for each in caplog.messages))
        await in_thread(lost.restart)
        reached = f"redis_reached address={address(lost)}"
        await until(lambda: caplog.messages.count(reached) == 2)


async def test_commands_to_all_nodes_are_heard_again_when_the_primary_that_brought_them_is_away(
    cluster: RedisCluster, prefix: str
) -> None:
    async with running_node(cluster.url, prefix) as node:
        port = hearing(node)._any.host[1]  # type: ignore[index]
        brings = next(each for each in cluster.servers if each.port == port)
        await in_thread(brings.kill)
        await until(lambda: not hearing(node).servers()[address(brings)])

        def heard() -> bool:
            it = hearing(node)
            return it._any.host != brings.host and it.connected and it.probe.heard

        await until(heard, within=3.0)
        await until(node.gateway.ready)
        # And it stays with that one.
        for _ in range(20):
            assert heard()
            await asyncio.sleep(0.05)


async def longest_unready(node: Node, over: asyncio.Event) -> float:
    """Of the spans of time in which a node was not ready, the longest one; looked for until that is over."""
    now = asyncio.get_running_loop().time
    longest, ready_at = 0.0, now()
    while not over.is_set():
        if node.gateway.ready():
            ready_at = now()
        longest = max(longest, now() - ready_at)
        await asyncio.sleep(0.01)
    return longest


async def test_while_the_primary_hangs_that_brings_commands_a_node_stays_ready_and_the_other_channels_go_on(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    async with (
        AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher,
        running_node(cluster.url, prefix) as node,
    ):
        it, now = hearing(node), asyncio.get_running_loop().time
        owners = {each.host: each for each in cluster.servers}
        brings = owners[it._any.host]  # type: ignore[index]
        user = await user_away_from(cluster, keys, brings)
        async with connected(node.url, make_token(user)) as client:
            await client.subscribe(f"notifications/{user}")
            await publisher.publish(f"notifications/{user}", 0)
            assert await client.data(1) == [0]
            over = asyncio.Event()
            looking = asyncio.create_task(longest_unready(node, over))
            brings.freeze()
            began, number = now(), 0
            while now() - began < HANGING_SECONDS:
                number += 1
                await publisher.publish(f"notifications/{user}", number)
                assert await client.data(1) == [number]
                # New connections are let in, too: the client's and its place's primaries are others.
                async with connected(node.url, make_token(user)):
                    pass
                await asyncio.sleep(0.1)
            assert it._any.host != brings.host
            assert not it.servers()[address(brings)]
            brings.thaw()
            await until(lambda: all(it.servers().values()))
            over.set()
            # Until the other primary brings the commands; that takes a round trip or two.
            assert await looking < 0.5


async def test_while_a_primary_hangs_no_place_at_another_runs_out_and_when_it_goes_on_its_own_are_renewed(
    cluster: RedisCluster, prefix: str, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round of renewing has users of all primaries; each that waited for the one that hangs would be late."""
    monkeypatch.setattr(places, "CALLS_AT_ONCE", 2)
    hangs = cluster.servers[0]
    users = [f"u{number}" for number in range(24)]
    at = {user: await has(cluster, keys.connections(user)) for user in users}
    others = [user for user in users if at[user] is not hangs]
    assert 4 <= len(others) <= 20

    async def count(server: ClusterServer, user: str) -> int:
        """How many places there are that have not run out."""
        seconds, _ = await in_thread(server.run, "TIME")
        living = int(seconds) * 1000, "+inf"
        return int(await in_thread(server.run, "ZCOUNT", keys.connections(user), *living))

    async with (
        running_node(
            cluster.url,
            prefix,
            connection_lease_seconds=LEASE_SECONDS * 3,
            redis_timeout_seconds=1.0,
        ) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        for user in users:
            await stack.enter_async_context(connected(node.url, make_token(user)))
        hangs.freeze()
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < HANGING_SECONDS + LEASE_SECONDS * 3:
            for user in others:
                assert await count(at[user], user) == 1
        assert node.gateway.readiness()["places"]
        hangs.thaw()
        for user in users:
            await until(lambda user=user: count(at[user], user))
        await until(node.gateway.ready)


async def test_a_primary_whose_probe_has_lost_its_slot_stays_up_and_is_not_asked_without_end(
    cluster: RedisCluster, prefix: str
) -> None:
    def subscriptions(server: ClusterServer) -> int:
        stats = str(server.run("INFO", "commandstats"))
        line = next(each for each in stats.splitlines() if each.startswith("cmdstat_ssubscribe:"))
        return int(line.partition("calls=")[2].partition(",")[0])

    source, target, _ = cluster.servers
    async with running_node(cluster.url, prefix) as node:
        tag = hearing(node)._probes[source.host]._tag
        before = await in_thread(subscriptions, source)
        await in_thread(cluster.move_slot, slot_of(tag), target)
        for _ in range(50):
            assert node.gateway.ready()
            await asyncio.sleep(0.05)
        assert hearing(node).servers()[address(source)]
        assert hearing(node)._probes[source.host]._tag != tag
        assert await in_thread(subscriptions, source) - before < 50


async def test_a_channel_that_is_left_and_joined_again_while_its_slot_moves_costs_no_connection(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    user = "u"
    channel = f"notifications/{user}"
    slot = slot_of(keys.log(channel))
    over = False

    async def move() -> None:
        while not over:
            for target in cluster.servers:
                await in_thread(cluster.move_slot, slot, target)

    async with (
        AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher,
        running_node(cluster.url, prefix, unsubscribe_linger_seconds=0.0) as node,
        connected(node.url, make_token(user)) as client,
    ):
        before = node.gateway.stats.redis_reconnects
        moving = asyncio.create_task(move())
        for number in range(50):
            await client.subscribe(channel)
            await publisher.publish(channel, number)
            assert await client.data(1) == [number]
            await client.send({"type": "unsubscribe", "channel": channel})
            await client.expect(type="unsubscribed")
        over = True
        await moving
        assert node.gateway.stats.redis_reconnects == before


async def test_a_node_that_ends_while_the_cluster_changes_leaves_no_task_and_names_no_primary_as_lost(
    cluster: RedisCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    async with running_node(cluster.url, prefix) as node:
        await in_thread(cluster.servers[0].kill)
        await until(lambda: not hearing(node).servers()[address(cluster.servers[0])])
        await in_thread(cluster.move_slot, 16_000, cluster.servers[1])
        hearing(node)._map.known.doubt()
        await asyncio.sleep(0.1)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
    lost = [each for each in caplog.messages if each.startswith("primary_lost")]
    assert lost == [f"primary_lost server={address(cluster.servers[0])}"]


async def test_while_the_mark_of_the_data_is_away_subscriptions_by_grants_of_the_others_go_on(
    cluster: RedisCluster, prefix: str
) -> None:
    """All are asked about once more, since commands to all nodes went unheard for a moment."""
    first = cluster.servers[0]
    for own in map(f"{prefix}{{}}".format, count()):
        if await has(cluster, Keys(own).marker) is first:
            break
    for channel in map("run-results/{}".format, count()):
        if await has(cluster, Keys(own).grant(channel)) is not first:
            break
    async with (
        AsyncPublisher.from_url(cluster.url, prefix=own) as publisher,
        running_node(cluster.url, own) as node,
    ):
        await publisher.grant(channel, "u")
        async with connected(node.url, make_token("u")) as client:
            await client.subscribe(channel)
            assert hearing(node)._any.host == first.host
            await in_thread(first.kill)
            await until(lambda: hearing(node)._any.host != first.host and hearing(node).connected)
            await publisher.publish(channel, 1)
            assert await client.data(1) == [1]


async def test_a_primary_that_refuses_subscriptions_is_lost_and_named_and_is_reached_once_it_takes_them(
    cluster: RedisCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway")
    refusing = cluster.servers[1]
    rules = of_a_gateway(Keys(prefix, sharded=True))
    for each in cluster.servers:
        await in_thread(each.run, "ACL", "SETUSER", "node", "on", ">pw", *rules)
    await in_thread(refusing.run, "ACL", "SETUSER", "node", "-ssubscribe")

    def told(event: str) -> list[str]:
        named = f"{event} server={address(refusing)}"
        return [each for each in caplog.messages if each.startswith(named)]

    def refusals() -> int:
        return sum(each.levelname == "DEBUG" for each in caplog.records if "refused" in each.msg)

    async with running_node(cluster.url_of(cluster.servers, "node:pw@"), prefix) as node:
        await until(node.gateway.ready)
        await until(lambda: told("primary_lost"))
        caplog.set_level("DEBUG", "gateway")
        await until(lambda: refusals() >= 3)
        assert len(told("primary_lost")) == 1
        assert "'ssubscribe'" in told("subscriber_refused")[0]
        assert not told("subscriber_connected")
        assert node.gateway.ready()
        await in_thread(refusing.run, "ACL", "SETUSER", "node", "+ssubscribe")
        await until(lambda: told("primary_reached"))
        assert len(told("subscriber_connected")) == 1
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert sum(each.startswith("subscriber_refused") for each in warnings) == 1


async def test_unconfirmed_messages_of_the_others_are_told_while_a_primary_is_away(
    cluster: RedisCluster, prefix: str, keys: Keys
) -> None:
    at_events = await has(cluster, keys.events)
    lost = next(each for each in cluster.servers if each is not at_events)
    told = {"events": UNCONFIRMED, "unconfirmed_after_seconds": 0.5}
    async with (
        running_node(cluster.url, prefix, **told) as node,
        AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher,
    ):
        # The node looks for none until the primary is away.
        await in_thread(at_events.run, "SET", keys.looker, "another")
        channels = [f"notifications/u{number}" for number in range(600)]
        await publisher.publish_many([(channel, "x") for channel in channels])
        there = {each for each in channels if await has(cluster, keys.log(each)) is not lost}
        assert 0 < len(there) < len(channels)
        await in_thread(lost.kill)
        await until(lambda: not hearing(node).servers()[address(lost)])
        await in_thread(at_events.run, "DEL", keys.looker)

        async def all_told() -> bool:
            return await in_thread(at_events.run, "XLEN", keys.events) >= len(there)

        await until(all_told, 5.0)  # with a pause for each 64 it would be longer
        events = await in_thread(at_events.run, "XRANGE", keys.events, "-", "+")
        assert len(events) == len(there)
