"""What happens to a primary that Sentinel watches over, and to the sentinels.

Each failover ends with the promotion, after which gateways have three seconds. The former primary comes back later, and
Sentinel makes it a replica.
"""

from __future__ import annotations

import asyncio
import random

from tests.faults.failovers import hangs, killed, may_lose
from tests.faults.sentinel_redis import SentinelRedis
from tests.faults.world import World


def _redis(w: World) -> SentinelRedis:
    assert isinstance(w.redis, SentinelRedis)
    return w.redis


async def primary_killed(w: World, _dice: random.Random, seconds: float) -> None:
    redis = _redis(w)
    await redis.settle()
    await killed(w, "primary_killed", redis.primary, redis.promoted, seconds)


async def primary_hangs(w: World, dice: random.Random, seconds: float) -> None:
    """When it goes on it takes itself for the primary still, until Sentinel tells it after some seconds."""
    redis = _redis(w)
    await redis.settle()
    await hangs(w, "primary_hangs", redis.primary, redis.promoted, dice, seconds)


async def planned_failover(w: World, _dice: random.Random, _seconds: float) -> None:
    """``SENTINEL FAILOVER`` does not stop the former primary, which takes writes until those who write have noticed."""
    redis = _redis(w)
    await redis.settle()
    async with w.fault("planned_failover", *w.nodes) as fault:
        await redis.fail_over()
        await redis.promoted()
        may_lose(w, fault.begun_at)


async def sentinel_killed(w: World, dice: random.Random, seconds: float) -> None:
    sentinel = dice.choice(_redis(w).sentinels)
    async with w.fault("sentinel_killed", *w.nodes):
        sentinel.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(sentinel.start)


async def sentinel_hangs(w: World, dice: random.Random, seconds: float) -> None:
    sentinel = dice.choice(_redis(w).sentinels)
    async with w.fault("sentinel_hangs", *w.nodes):
        sentinel.freeze()
        await asyncio.sleep(seconds)
        sentinel.thaw()
