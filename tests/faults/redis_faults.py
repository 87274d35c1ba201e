"""What happens to Redis itself: killed, hung, full, busy, read-only, failed over.

Each fault lasts ``seconds``, says in the trace when it began and ended, and returns when all nodes are
ready again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.faults.redis_pair import RedisPair
from tests.faults.trace import Interval
from tests.faults.world import World


@contextlib.asynccontextmanager
async def admin(w: World, **options: Any) -> AsyncIterator[redis.asyncio.Redis]:
    """An operator's connection, which is open before anything goes wrong."""
    client = redis.asyncio.Redis(
        port=w.server.port, socket_timeout=2, single_connection_client=True, **options
    )
    async with client:
        with contextlib.suppress(RedisError, OSError):
            await client.ping()
        yield client


async def redis_killed(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("redis_killed", *w.nodes):
        w.server.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(w.server.restart)


async def redis_hangs(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("redis_hangs", *w.nodes):
        w.server.freeze()
        await asyncio.sleep(seconds)
        w.server.thaw()


async def redis_ends_pubsub(w: World, _dice: random.Random, _seconds: float) -> None:
    async with w.fault("redis_ends_pubsub", *w.nodes), admin(w) as client:
        await client.client_kill_filter(_type="pubsub")


async def redis_ends_normal_connections(w: World, _dice: random.Random, _seconds: float) -> None:
    async with w.fault("redis_ends_normal_connections", *w.nodes), admin(w) as client:
        await client.client_kill_filter(_type="normal", skipme=True)


async def redis_forgets_scripts(w: World, _dice: random.Random, _seconds: float) -> None:
    async with w.fault("redis_forgets_scripts", *w.nodes), admin(w) as client:
        await client.script_flush()


async def redis_is_paused(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("redis_is_paused", *w.nodes), admin(w) as client:
        await client.client_pause(round(seconds * 1000), all=True)
        await asyncio.sleep(seconds)


async def redis_is_out_of_memory(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("redis_is_out_of_memory", *w.nodes), admin(w) as client:
        await _configured_for(client, seconds, "maxmemory", 1, 0)


async def redis_lacks_replicas(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("redis_lacks_replicas", *w.nodes), admin(w) as client:
        await _configured_for(client, seconds, "min-replicas-to-write", 9, 0)


async def _configured_for(
    client: redis.asyncio.Redis, seconds: float, name: str, bad: int, good: int
) -> None:
    await client.config_set(name, bad)
    try:
        await asyncio.sleep(seconds)
    finally:
        await client.config_set(name, good)


async def redis_becomes_a_replica(w: World, _dice: random.Random, seconds: float) -> None:
    """Of a primary that is not there, so that it keeps what it has."""
    async with w.fault("redis_becomes_a_replica", *w.nodes), admin(w) as client:
        await client.replicaof("127.0.0.1", 1)
        try:
            await asyncio.sleep(seconds)
        finally:
            await client.replicaof("NO", "ONE")


async def redis_is_busy_with_a_script(w: World, _dice: random.Random, seconds: float) -> None:
    async with (
        w.fault("redis_is_busy_with_a_script", *w.nodes),
        admin(w) as client,
        # One that tried again after the script was killed would run it for ever.
        admin(w, retry=Retry(NoBackoff(), 0)) as busy,
    ):
        await client.config_set("busy-reply-threshold", 50)
        loop = asyncio.create_task(_run_for_ever(busy))
        await asyncio.sleep(seconds)
        await client.script_kill()
        await loop


async def _run_for_ever(client: redis.asyncio.Redis) -> None:
    with contextlib.suppress(RedisError, OSError):
        await client.execute_command("EVAL", "while true do end", 0)


async def redis_is_full_of_clients(w: World, dice: random.Random, seconds: float) -> None:
    """It takes no new connection, and those that the nodes had break."""
    async with w.fault("redis_is_full_of_clients", *w.nodes), admin(w) as client:
        await client.config_set("maxclients", 1)
        try:
            for node in w.nodes:
                node.redis.cut()
            await asyncio.sleep(seconds)
        finally:
            await client.config_set("maxclients", 10_000)


def _pair(w: World) -> RedisPair:
    assert isinstance(w.redis, RedisPair)
    return w.redis


async def redis_fails_over(w: World, _dice: random.Random, seconds: float) -> None:
    """The replica has everything when the primary dies, and is promoted after a while."""
    async with w.fault("redis_fails_over", *w.nodes):
        await _pair(w).replica_follows(paused=True)
        await _promoted(w, seconds)
    await _pair(w).replace_dead()


async def redis_fails_over_and_loses_writes(w: World, dice: random.Random, seconds: float) -> None:
    """Replication is cut before the primary dies, and what it takes meanwhile is lost."""
    await _pair(w).replica_follows(paused=False)
    async with w.fault("redis_fails_over_and_loses_writes", *w.nodes) as fault:
        _pair(w).cut_replication()
        await asyncio.sleep(dice.uniform(0.5, 2))
        w.trace.losses.append(Interval(fault.begun_at, asyncio.get_running_loop().time()))
        await _promoted(w, seconds)
    await _pair(w).replace_dead()


async def _promoted(w: World, seconds: float) -> None:
    _pair(w).kill_primary()
    await asyncio.sleep(seconds)
    await _pair(w).promote_replica()
    w.lead_to_redis()
