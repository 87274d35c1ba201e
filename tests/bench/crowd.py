"""Items 4 and 8: the memory of idle connections, what they cost while nothing happens, and what stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from tests.bench.measuring import cpu_seconds, memory_bytes
from tests.bench.receiving import receiving
from tests.bench.scale import Scale
from tests.bench.world import GREETINGS, World, own_channel, own_world, target, users
from tests.support.waiting import until

Result = dict[str, Any]

_WARM_UP = 100
_STEADY_SAMPLES = 10
_STEADY_PART = 0.002


async def crowd(scale: Scale, kinds: Sequence[str]) -> Result:
    """Memory (``memory``) at several sizes of the crowd and afterwards, and CPU while idle (``idle``).

    Every connection is of a user of its own, and subscribed to that user's channel.
    """
    async with own_world() as world:
        # Code is loaded and caches are filled by the first who come.
        async with receiving(world.gateway.port, _targets("warm", _WARM_UP), greetings=GREETINGS):
            pass
        await _all_gone(world, scale)
        start = await _steady_memory(world, scale)
        memory: Result = {"start_bytes": start, "sizes": {}}
        result: Result = {}
        async with contextlib.AsyncExitStack() as stack:
            present = 0
            for size in scale.crowd:
                targets = _targets(f"to-{size}", size - present)
                await stack.enter_async_context(
                    receiving(world.gateway.port, targets, greetings=GREETINGS)
                )
                present = size
                if "memory" in kinds:
                    memory["sizes"][str(size)] = await _memory_of(world, scale, size, start)
            if "idle" in kinds:
                result["idle"] = {"connections": present, **await _idle(world, scale.idle_seconds)}
        if "memory" in kinds:
            await _all_gone(world, scale)
            result["memory"] = {**memory, "end_bytes": await _steady_memory(world, scale)}
        return result


async def _memory_of(world: World, scale: Scale, size: int, start: int) -> Result:
    memory = await _steady_memory(world, scale)
    return {"bytes": memory, "bytes_per_connection": (memory - start) / size}


def _targets(group: str, count: int) -> list[str]:
    return [target(user, own_channel(user)) for user in users(count, group)]


async def _idle(world: World, seconds: float) -> Result:
    pids, redis = world.pids, world.redis.pids
    before, redis_before = cpu_seconds(pids), cpu_seconds(redis)
    await asyncio.sleep(seconds)
    return {
        "part_of_core": (cpu_seconds(pids) - before) / seconds,
        "redis_part_of_core": (cpu_seconds(redis) - redis_before) / seconds,
        "seconds": seconds,
    }


async def _all_gone(world: World, scale: Scale) -> None:
    async def nobody() -> bool:
        return not await world.gauge("gateway_connections")

    await until(nobody, 60)
    # Channels linger a second after their last subscriber.
    await asyncio.sleep(2 * scale.settle_seconds)


async def _steady_memory(world: World, scale: Scale) -> int:
    """The memory once it no longer changes."""
    memory = memory_bytes(world.pids)
    for _ in range(_STEADY_SAMPLES):
        await asyncio.sleep(scale.settle_seconds / 3)
        before, memory = memory, memory_bytes(world.pids)
        if abs(memory - before) < before * _STEADY_PART:
            break
    return memory
