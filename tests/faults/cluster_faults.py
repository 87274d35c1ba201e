"""What happens to the servers of a cluster, and to its slots.

Each failover ends with the promotion, after which gateways have three seconds. The former primary comes back later, as
a replica.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial

from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.faults.cluster_redis import ClusterRedis
from tests.faults.failovers import hangs, killed
from tests.faults.world import World


def _redis(w: World) -> ClusterRedis:
    assert isinstance(w.redis, ClusterRedis)
    return w.redis


async def shard_killed(w: World, dice: random.Random, seconds: float) -> None:
    redis = _redis(w)
    primary, replica = await redis.any_pair(dice)
    await killed(w, "shard_killed", primary, partial(redis.promoted, replica), seconds)


async def shard_hangs(w: World, dice: random.Random, seconds: float) -> None:
    """When it goes on it takes itself for a primary still, until the others tell it."""
    redis = _redis(w)
    primary, replica = await redis.any_pair(dice)
    await hangs(w, "shard_hangs", primary, partial(redis.promoted, replica), dice, seconds)


async def shard_fails_over_as_planned(w: World, dice: random.Random, _seconds: float) -> None:
    """``CLUSTER FAILOVER`` stops the former primary until the replica has everything, so nothing may be lost."""
    redis = _redis(w)
    _, replica = await redis.any_pair(dice)
    async with w.fault("shard_fails_over_as_planned", *w.nodes):
        await asyncio.to_thread(replica.run, "CLUSTER", "FAILOVER")
        await redis.promoted(replica)


def _any_slot(w: World, dice: random.Random) -> int:
    """One that carries a channel, or a user's places."""
    keys = Keys(w.prefix)
    devices = w.trace.devices
    names = {keys.log(channel) for each in devices for channel in each.channels}
    names |= {keys.connections(each.user) for each in devices}
    return slot_of(dice.choice(sorted(names)))


async def slot_moves_away_and_back(w: World, dice: random.Random, seconds: float) -> None:
    redis = _redis(w)
    await redis.settle()
    slot = _any_slot(w, dice)
    home = redis.owner(slot)
    other = dice.choice([each for each in redis.primaries if each is not home])
    async with w.fault("slot_moves_away_and_back", *w.nodes):
        await redis.move(slot, other)
        await asyncio.sleep(seconds)
        await redis.move(slot, home)


async def primary_added_and_removed(w: World, dice: random.Random, seconds: float) -> None:
    """It has a slot for a while."""
    redis = _redis(w)
    await redis.settle()
    slot = _any_slot(w, dice)
    home = redis.owner(slot)
    async with w.fault("primary_added_and_removed", *w.nodes):
        added = await asyncio.to_thread(redis.cluster.add_primary)
        await redis.settle()
        await redis.move(slot, added)
        await asyncio.sleep(seconds)
        await redis.move(slot, home)
        await redis.settle()
        await asyncio.to_thread(redis.cluster.remove, added)
