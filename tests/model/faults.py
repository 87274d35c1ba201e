"""What is broken, at random: nodes, their ways to Redis, and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import redis.asyncio

from tests.faults.cluster_redis import ClusterRedis
from tests.faults.proxy import Proxy
from tests.faults.redis_pair import RedisPair
from tests.faults.sentinel_redis import SentinelRedis
from tests.model.record import NODE_REPLACED, Disconnection, Revocation
from tests.model.steps import FOR_EVER, Step, insist
from tests.model.visitors import Visitor, note_disconnection, note_revocation, token_of
from tests.model.world import TENANTS, USERS, Place, World
from tests.support import topology
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

_ANSWER_SECONDS: Final = 10.0
_REPLICATION_SECONDS: Final = 20.0
_SLOW_SECONDS: Final = 0.3
_LOOK_SECONDS: Final = 0.005


# -- a node ---------------------------------------------------------------------------------------


async def node_replaced(world: World, dice: random.Random) -> None:
    """A node ends in order, and another one takes its place."""
    place = dice.choice(world.places)
    async with world.fault(NODE_REPLACED, place):
        await place.stop()
        await place.start()


# -- its way to Redis -----------------------------------------------------------------------------


async def node_cut_off(world: World, dice: random.Random) -> None:
    """A node's way to Redis is cut, and comes back."""
    place = dice.choice(world.places)
    async with world.fault("node cut off", place):
        place.way.refuse()
        await asyncio.sleep(dice.uniform(0.2, 3))
        await place.way.start()


async def node_half_open(world: World, dice: random.Random) -> None:
    """A node's connections to Redis break so that it does not learn of it."""
    place = dice.choice(world.places)
    async with world.fault("node half open", place):
        for link in place.way.links:
            link.half_open()
        await asyncio.sleep(dice.uniform(0.2, 3))


async def pubsub_cut(world: World, dice: random.Random) -> None:
    """Only the connections break over which a node hears."""
    place = dice.choice(world.places)
    async with world.fault("pubsub cut", place):
        place.way.cut(lambda link: link.subscribed)


async def revoked_while_cut_off(world: World, dice: random.Random) -> None:
    """A node does not hear that a connection of its own is ended, or the token of one revoked.

    When it is back, its questions take a while, and live messages come meanwhile.
    """
    place = dice.choice(world.places)
    witness = await _witness(world, place, dice)
    others = [
        each.visit
        for each in world.here
        if each.visit.node == place.number and each.visit.token is not None and each is not witness
    ]
    meant = dice.sample(others, min(2, len(others)))
    if witness is not None:
        meant.append(witness.visit)
    async with world.fault("revoked while cut off", place):
        place.way.refuse()
        await asyncio.sleep(dice.uniform(0.1, 0.5))
        for visit in meant:
            token, user = visit.token, visit.user
            by_id = witness is not None and visit is witness.visit
            if token is not None and token.id is not None and (by_id or dice.random() < 0.5):
                end = time.time() + FOR_EVER
                revoke = partial(world.publisher.revoke_token, token.id, end)
                asked, done, _ = await insist(world, revoke)
                note_revocation(world.record, Revocation(asked, done, token.id))
            else:
                asked, done, _ = await insist(world, partial(world.publisher.disconnect, user))
                note_disconnection(world.record, Disconnection(user, asked, done, one=False))
        # What is published from now on is not theirs.
        await asyncio.sleep(dice.uniform(1.2, 2.5))
        await place.way.start()
        async with _slow_answers(place.way, dice.choice((0, _SLOW_SECONDS))):
            await world.all_ready()


@contextlib.asynccontextmanager
async def _slow_answers(way: Proxy, seconds: float) -> AsyncIterator[None]:
    """What a node asks takes so long until the block ends, and messages come live meanwhile."""

    async def slow_down() -> None:
        while True:
            for link in way.links:
                link.down.delay = 0 if link.subscribed else seconds
            await asyncio.sleep(_LOOK_SECONDS)

    slowing = asyncio.create_task(slow_down())
    try:
        yield
    finally:
        slowing.cancel()
        for link in way.links:
            link.down.delay = 0


async def _witness(world: World, place: Place, dice: random.Random) -> Visitor | None:
    """A client of a node that hears a channel without a log by its token alone, which has an id.

    Whatever the node does not hold back reaches it first: nothing is asked about such a subscription, what comes live is
    never behind a gap, and about the ids of tokens Redis is asked last. ``None`` where it was not let in.
    """
    here = [each.visit.user for each in world.here]
    user = min(dice.sample(USERS, len(USERS)), key=here.count)
    channel = next(f"live/{tenant}" for tenant, users in TENANTS.items() if user in users)
    while (token := token_of(world.record, user, (channel,), FOR_EVER)).id is None:
        pass
    one = await world.connect(token, place)
    if one is not None:
        # Nobody else lets it do anything.
        world.visitors.remove(one)
        await one.subscribe(channel)
        await until(lambda: channel not in one.pending, _ANSWER_SECONDS)
    return one


# -- Redis ----------------------------------------------------------------------------------------


async def pubsub_ended(world: World, _dice: random.Random) -> None:
    """Redis ends all connections over which nodes hear."""
    async with world.fault("pubsub ended"):
        for server in world.servers.primaries:
            async with redis.asyncio.Redis(port=server.port) as client:
                await client.client_kill_filter(_type="pubsub")


async def redis_restarted(world: World, dice: random.Random) -> None:
    """A single Redis dies, and comes back with what it had."""
    assert isinstance(world.servers, RedisPair)
    async with world.fault("redis restarted"):
        world.servers.primary.kill()
        await asyncio.sleep(dice.uniform(0.1, 2))
        await asyncio.to_thread(world.servers.primary.restart)


async def primary_killed(world: World, _dice: random.Random) -> None:
    """The primary that Sentinel watches over dies, and a replica takes over."""
    servers = world.servers
    assert isinstance(servers, SentinelRedis)
    await servers.settle()
    await _killed(world, servers.primary, servers.promoted)


async def shard_killed(world: World, dice: random.Random) -> None:
    """A primary of the cluster dies, and its replica takes over."""
    servers = world.servers
    assert isinstance(servers, ClusterRedis)
    primary, replica = await servers.any_pair(dice)
    await _killed(world, primary, partial(servers.promoted, replica))


async def shard_fails_over(world: World, dice: random.Random) -> None:
    """A replica takes over as planned: its primary stops until it has everything."""
    servers = world.servers
    assert isinstance(servers, ClusterRedis)
    _, replica = await servers.any_pair(dice)
    async with world.fault("shard fails over"):
        await asyncio.to_thread(replica.run, "CLUSTER", "FAILOVER")
        await servers.promoted(replica)


async def _killed(
    world: World, primary: RedisServer, promoted: Callable[[], Awaitable[None]]
) -> None:
    """A primary dies when its replicas have all that backends were told of: what they lack Redis may lose, which is no
    gateway's fault. From the promotion on backends go on, while nodes still look for the new primary.
    """
    async with world.fault("primary killed"):
        async with world.quiet():
            await until(await _replicated(primary), _REPLICATION_SECONDS)
            primary.kill()
            await promoted()
    # Not before: it has lost its data, and would be asked by whoever has not heard of the promotion.
    await asyncio.to_thread(primary.restart)


async def _replicated(primary: RedisServer) -> Callable[[], Awaitable[bool]]:
    """Whether all replicas have what has been written until now."""

    async def state() -> tuple[int, list[int]]:
        async with redis.asyncio.Redis(port=primary.port) as client:
            told = await client.info("replication")
        replicas = [told[f"slave{number}"] for number in range(told["connected_slaves"])]
        return told["master_repl_offset"], [each["offset"] for each in replicas]

    written, _ = await state()

    async def reached() -> bool:
        _, offsets = await state()
        return bool(offsets) and min(offsets) >= written

    return reached


def faults_here() -> list[tuple[float, Step]]:
    """What can be broken where the Redis is what ``TOPOLOGY`` says."""
    everywhere: list[tuple[float, Step]] = [(2.0, pubsub_ended), (1.0, node_replaced)]
    match topology.chosen():
        case topology.SENTINEL:
            return [*everywhere, (1.0, primary_killed)]
        case topology.CLUSTER:
            return [*everywhere, (1.0, shard_killed), (1.0, shard_fails_over)]
        case _:
            # A way that leads to other servers than the one it was made for cannot be broken.
            return [
                *everywhere,
                (4.0, revoked_while_cut_off),
                (2.0, node_cut_off),
                (2.0, node_half_open),
                (2.0, pubsub_cut),
                (1.0, redis_restarted),
            ]
