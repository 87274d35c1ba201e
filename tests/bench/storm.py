"""Item 5: everybody comes back at once."""

from __future__ import annotations

from typing import Any

from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds
from tests.bench.receiving import receiving
from tests.bench.scale import Scale
from tests.bench.world import GREETINGS, own_channel, own_world, publish, target, users

Result = dict[str, Any]

_WINDOW = 1_000


async def storm(scale: Scale) -> Result:
    """Clients of distinct users connect, authenticate, get a place, subscribe and have messages replayed.

    Every round is a new gateway's first storm. Returns complete sequences for each second of the
    gateway's CPU, the median of all rounds.
    """
    rounds = sorted(
        [await _storm(scale) for _ in range(scale.rounds)], key=lambda each: each["per_cpu_second"]
    )
    return {**rounds[len(rounds) // 2], "rounds": [each["per_cpu_second"] for each in rounds]}


async def _storm(scale: Scale) -> Result:
    names = users(scale.storm_clients)
    targets = [target(name, own_channel(name)) for name in names]
    missed = [(own_channel(name), message(scale.message_bytes)) for name in names]
    async with own_world() as world:
        for _ in range(scale.storm_replay):
            await publish(world.redis.url, missed)
        pids, redis = world.pids, world.redis.pids
        before, redis_before = cpu_seconds(pids), cpu_seconds(redis)
        async with receiving(
            world.gateway.port,
            targets,
            greetings=GREETINGS + scale.storm_replay,
            window=min(_WINDOW, len(targets)),
        ) as receiver:
            used = cpu_seconds(pids) - before
            redis_used = cpu_seconds(redis) - redis_before
            return {
                "clients": len(targets),
                "per_cpu_second": len(targets) / used,
                "us_per_sequence": used / len(targets) * 1e6,
                "redis_us_per_sequence": redis_used / len(targets) * 1e6,
                "seconds": receiver.join_seconds,
            }
