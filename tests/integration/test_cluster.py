"""A node on a Redis Cluster: slots that move, primaries that fail over, come and go, under way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.support.client import Client, connected
from tests.support.nodes import Node, running_node
from tests.support.redis_cluster import ClusterServer, RedisCluster
from tests.support.tokens import make_token
from tests.support.waiting import until

READY_SECONDS = 3.0
USERS = [f"u{number}" for number in range(12)]


class Writer:
    """Publishes as a backend does, and knows what was acknowledged."""

    def __init__(self, publisher: AsyncPublisher) -> None:
        self._publisher = publisher
        self.acknowledged: dict[str, list[int]] = {}

    async def publish(self, user: str, data: int) -> None:
        await self._publisher.publish(f"notifications/{user}", data)
        self.acknowledged.setdefault(user, []).append(data)

    @contextlib.asynccontextmanager
    async def load(self, *users: str) -> AsyncIterator[None]:
        """Publish to each user, one after the other, until the block ends."""
        over = False

        async def publish(user: str) -> None:
            number = len(self.acknowledged.get(user, ()))
            while not over:
                await self.publish(user, number)
                number += 1
                await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(publish(each)) for each in users]
        try:
            yield
        finally:
            over = True
            await asyncio.gather(*tasks)

    async def goes_on(self) -> None:
        """Return once each user has been sent something more."""
        before = {user: len(numbers) for user, numbers in self.acknowledged.items()}
        await until(
            lambda: all(len(self.acknowledged[user]) > count for user, count in before.items())
        )


@pytest.fixture
async def writer(cluster: RedisCluster, prefix: str) -> AsyncIterator[Writer]:
    async with AsyncPublisher.from_url(cluster.url, prefix=prefix, timeout=1.0) as publisher:
        yield Writer(publisher)


@contextlib.asynccontextmanager
async def listening(node: Node) -> AsyncIterator[dict[str, Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for user in USERS:
            clients[user] = await stack.enter_async_context(connected(node.url, make_token(user)))
            await clients[user].subscribe(f"notifications/{user}")
        yield clients


async def hears_all(clients: dict[str, Client], writer: Writer) -> None:
    for user, numbers in writer.acknowledged.items():
        assert await clients[user].data(len(numbers)) == numbers
        await clients[user].sync()


def address(server: ClusterServer) -> str:
    return f"127.0.0.1:{server.port}"


async def readyz(node: Node) -> tuple[int, Any]:
    status, body = await node.get("/readyz")
    return status, json.loads(body)


def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return asyncio.to_thread(work, *arguments)


def users_of(cluster: RedisCluster, prefix: str, server: ClusterServer) -> list[str]:
    keys = Keys(prefix)
    return [
        each
        for each in USERS
        if cluster.owner(slot_of(keys.log(f"notifications/{each}"))) is server
    ]


async def test_messages_come_live_and_from_the_log_and_places_are_counted_over_two_nodes(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async with (
        running_node(cluster.url, prefix) as first,
        running_node(cluster.url, prefix) as second,
        listening(first) as clients,
    ):
        for user in USERS:
            await writer.publish(user, 0)
        await hears_all(clients, writer)
        async with contextlib.AsyncExitStack() as stack:
            for node in (first, second, second, second):
                await stack.enter_async_context(connected(node.url, make_token(USERS[0])))
            with pytest.raises(AssertionError):
                async with connected(second.url, make_token(USERS[0])):
                    pass
        async with connected(second.url, make_token(USERS[1])) as late:
            await late.subscribe(f"notifications/{USERS[1]}", since=0)
            assert await late.data(1) == [0]
        status, body = await readyz(first)
        assert status == 200
        assert body["redis"] == {address(each): "up" for each in cluster.servers[:3]}


async def survive(
    cluster: RedisCluster,
    prefix: str,
    writer: Writer,
    trouble: Callable[[Node], Any],
) -> None:
    """Go through ``trouble`` under load: every message comes once, in order."""
    async with running_node(cluster.url, prefix) as node, listening(node) as clients:
        async with writer.load(*USERS):
            await until(lambda: all(len(each) > 5 for each in writer.acknowledged.values()))
            await trouble(node)
            await writer.goes_on()
        await hears_all(clients, writer)


async def followed(cluster: RedisCluster, node: Node, replica: ClusterServer) -> None:
    """The replica is promoted, and the node is ready on it within three seconds."""
    await until(lambda: in_thread(lambda: replica.leads))
    promoted = asyncio.get_running_loop().time()

    def is_there() -> bool:
        return (
            node.gateway.redis.hearing.servers().get(address(replica), False)
            and node.gateway.ready()
        )

    await until(is_there)
    assert asyncio.get_running_loop().time() - promoted < READY_SECONDS


async def test_a_primary_that_is_killed_is_followed(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async def kill(node: Node) -> None:
        replica = await in_thread(cluster.replica_of, cluster.servers[0])
        await in_thread(cluster.servers[0].kill)
        await followed(cluster, node, replica)

    await survive(cluster, prefix, writer, kill)


@pytest.mark.thorough("cluster")
async def test_a_primary_that_hangs_is_left_and_comes_back_as_a_replica(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async def hang(node: Node) -> None:
        replica = await in_thread(cluster.replica_of, cluster.servers[0])
        cluster.servers[0].freeze()
        await followed(cluster, node, replica)
        # What it was sent and has not answered it would take still, and then throw away.
        await writer.goes_on()
        cluster.servers[0].thaw()
        await in_thread(cluster.settle)
        await until(node.gateway.ready)

    await survive(cluster, prefix, writer, hang)


@pytest.mark.thorough("cluster")
async def test_a_planned_failover_is_followed(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async def fail_over(node: Node) -> None:
        replica = await in_thread(cluster.replica_of, cluster.servers[0])
        await in_thread(cluster.fail_over, replica)
        await until(lambda: node.gateway.redis.hearing.servers().get(address(replica)))

    await survive(cluster, prefix, writer, fail_over)


async def test_slots_that_move_back_and_forth_take_their_subscriptions_along_and_no_others(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async def move(node: Node) -> None:
        keys = Keys(prefix)
        checked: list[str] = []
        check = node.gateway.delivery.catchup.check_named

        async def noted(names: Any) -> None:
            checked.extend(names)
            await check(names)

        node.gateway.delivery.catchup.check_named = noted
        moved = USERS[:4]
        for user in moved:
            slot = slot_of(keys.log(f"notifications/{user}"))
            home = await in_thread(cluster.owner, slot)
            other = next(each for each in cluster.servers[:3] if each is not home)
            await in_thread(cluster.move_slot, slot, other)
            await writer.goes_on()
            await in_thread(cluster.move_slot, slot, home)
        await until(lambda: {f"notifications/{each}" for each in moved} <= set(checked))
        assert set(checked) == {f"notifications/{each}" for each in moved}

    await survive(cluster, prefix, writer, move)


@pytest.mark.thorough("cluster")
async def test_a_primary_that_is_added_is_used_and_one_that_is_removed_is_not_missed(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async def add_and_remove(node: Node) -> None:
        added = await in_thread(cluster.add_primary)
        await in_thread(cluster.settle)
        slot = slot_of(Keys(prefix).log(f"notifications/{USERS[0]}"))
        home = await in_thread(cluster.owner, slot)
        await in_thread(cluster.move_slot, slot, added)
        await until(lambda: node.gateway.redis.hearing.servers().get(address(added)))
        await in_thread(cluster.move_slot, slot, home)
        await in_thread(cluster.settle)
        await in_thread(cluster.remove, added)
        await until(lambda: address(added) not in node.gateway.redis.hearing.servers())
        await until(node.gateway.ready)

    await survive(cluster, prefix, writer, add_and_remove)


@pytest.mark.thorough("cluster")
async def test_where_a_lost_primary_stops_the_whole_cluster_no_node_is_ready(
    cluster: RedisCluster, prefix: str
) -> None:
    """By default a cluster answers nobody while any slot has no server, though probes go on."""
    for each in cluster.servers:
        await in_thread(each.run, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    lost = cluster.servers[0]
    async with running_node(cluster.url, prefix) as node:
        await in_thread((await in_thread(cluster.replica_of, lost)).kill)
        await in_thread(lost.kill)
        await until(lambda: not node.gateway.ready())
        await until(lambda: not any(node.gateway.redis.hearing.servers().values()))
        await in_thread(lost.restart)
        await until(node.gateway.ready)


async def test_a_shard_that_is_down_makes_only_its_channels_silent(
    cluster: RedisCluster, prefix: str, writer: Writer
) -> None:
    async with running_node(cluster.url, prefix) as node, listening(node) as clients:
        # Whom another one knows of is in question after the loss of the one that brings commands to all nodes.
        bringing = node.gateway.redis.hearing._any.host
        lost = next(each for each in cluster.servers if each.host != bringing)
        silent = await in_thread(users_of, cluster, prefix, lost)
        others = [each for each in USERS if each not in silent]
        # A publisher that knows no namespaces yet waits for the shard that has them.
        for user in USERS:
            await writer.publish(user, 0)
        await in_thread((await in_thread(cluster.replica_of, lost)).kill)
        await in_thread(lost.kill)
        await until(lambda: not node.gateway.redis.hearing.servers()[address(lost)])
        for user in others:
            await writer.publish(user, 1)
        await hears_all(clients, writer)
        await until(node.gateway.ready)
        status, body = await readyz(node)
        assert (status, body["redis"][address(lost)]) == (200, "down")
        assert list(body["redis"].values()).count("down") == 1
        assert "gateway_redis_primaries_down 1.0" in (await node.get("/metrics"))[1]


@contextlib.asynccontextmanager
async def granted_beside_commands(
    cluster: RedisCluster, prefix: str
) -> AsyncIterator[tuple[AsyncPublisher, Client, str, ClusterServer]]:
    """A client in a channel that it was granted, and the server that brings commands to its node: another's."""
    async with (
        running_node(cluster.url, prefix) as node,
        AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        owners = {each.host: each for each in cluster.servers}
        server = owners[node.gateway.redis.hearing._any.host]
        channel = await in_thread(channel_beside, cluster, prefix, server)
        await publisher.grant(channel, "u")
        await client.subscribe(channel)
        yield publisher, client, channel, server


async def test_a_revocation_is_heard_while_the_server_hangs_that_brings_commands_to_all_nodes(
    cluster: RedisCluster, prefix: str
) -> None:
    async with granted_beside_commands(cluster, prefix) as (publisher, client, channel, server):
        await publisher.publish(channel, "heard")
        assert await client.data(1) == ["heard"]
        server.freeze()
        await publisher.revoke(channel, "u")
        await publisher.publish(channel, "after that")
        assert (await client.receive())["type"] == "unsubscribed"


def channel_beside(cluster: RedisCluster, prefix: str, server: ClusterServer) -> str:
    """One that needs a grant, and is not of this server."""
    names = (f"run-results/{number}" for number in range(100))
    return next(
        each for each in names if cluster.owner(slot_of(Keys(prefix).log(each))) is not server
    )


async def test_while_a_primary_hangs_the_others_are_asked_who_has_taken_over(
    cluster: RedisCluster, prefix: str
) -> None:
    hanging = cluster.servers[0]
    async with running_node(cluster.url, prefix) as node:
        known, asked = node.gateway.redis.connections.map, 0
        look = known._look

        async def noted() -> None:
            nonlocal asked
            asked += 1
            await look()

        known._look = noted
        await in_thread((await in_thread(cluster.replica_of, hanging)).kill)
        hanging.freeze()
        await until(lambda: not node.gateway.redis.hearing.servers()[address(hanging)])
        before = asked
        await until(lambda: asked >= before + 2, READY_SECONDS)


async def test_a_node_without_channels_leaves_a_primary_that_has_become_a_replica(
    cluster: RedisCluster, prefix: str
) -> None:
    replica = await in_thread(cluster.replica_of, cluster.servers[0])
    async with running_node(cluster.url, prefix) as node:
        await in_thread(cluster.fail_over, replica)
        await until(
            lambda: node.gateway.redis.hearing.servers().get(address(replica)), READY_SECONDS
        )


async def test_grants_of_channels_that_have_moved_are_asked_about(
    cluster: RedisCluster, prefix: str
) -> None:
    channel, keys = "run-results/moves", Keys(prefix)
    slot = slot_of(keys.log(channel))
    async with (
        running_node(cluster.url, prefix) as node,
        AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher,
        connected(node.url, make_token("u")) as client,
    ):
        await publisher.grant(channel, "u")
        await client.subscribe(channel)
        home = await in_thread(cluster.owner, slot)
        # As if the node had not heard of it.
        await in_thread(home.run, "ZREM", keys.grant(channel), "u")
        other = next(each for each in cluster.servers[:3] if each is not home)
        await in_thread(cluster.move_slot, slot, other)
        assert (await client.receive())["type"] == "unsubscribed"


async def test_a_grant_that_is_shortened_ends_with_the_channels_messages_too(
    cluster: RedisCluster, prefix: str
) -> None:
    async with granted_beside_commands(cluster, prefix) as (publisher, client, channel, server):
        server.freeze()
        await publisher.grant(channel, "u", ttl=1)
        begun = asyncio.get_running_loop().time()
        # Once the commands come over another server all grants are asked about, also those that may have been revoked.
        assert (await client.receive())["reason"] in ("expired", "revoked")
        assert asyncio.get_running_loop().time() - begun < READY_SECONDS
