"""Item 12: what publishes and deliveries cost on a Redis Cluster, beside a cluster of one primary and a single server."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any, Final

from publisher import AsyncPublisher, Publisher
from tests.bench.one_to_one import Load, middle
from tests.bench.publishing import Ways, measure, medians, random_messages
from tests.bench.receiving import receiving
from tests.bench.scale import Scale
from tests.bench.world import (
    GREETINGS,
    NAMESPACE,
    PREFIX,
    Redis,
    own_cluster,
    own_redis,
    target,
    users,
    world_on,
)

Result = dict[str, Any]
Sides = Mapping[str, Redis]

_PRIMARIES: Final = 3
_CHANNELS: Final = 1_000
_WAYS: Final = ("many", "many_awaited")


async def on_a_cluster(scale: Scale) -> Result:
    """CPU of Redis and of who publishes or delivers, with the same messages on each side in turns.

    No primary has a replica, but those of ``replicated``: the primaries' CPU counts, not that of their replicas.
    """
    with contextlib.ExitStack() as stack:
        sides = {
            "server": stack.enter_context(own_redis()),
            "one": stack.enter_context(own_cluster(1)),
            "three": stack.enter_context(own_cluster(_PRIMARIES)),
            "replicated": stack.enter_context(own_cluster(_PRIMARIES, replicated=True)),
        }
        return {
            "publish": await _publishes(sides, scale),
            "delivery": await _deliveries(
                {name: sides[name] for name in ("server", "three")}, scale
            ),
        }


async def _publishes(sides: Sides, scale: Scale) -> Result:
    """Nobody listens; the channels are spread over all primaries."""
    chance = random.Random(12)
    found: dict[str, dict[str, list[Result]]] = {way: {name: [] for name in sides} for way in _WAYS}
    async with contextlib.AsyncExitStack() as stack:
        publishers = {name: await _publisher(server, stack) for name, server in sides.items()}
        for number in range(-1, scale.rounds):
            for way in _WAYS:
                channels = [f"run-results/{way}-{n}" for n in range(_CHANNELS)]
                messages = random_messages(scale.publishes, channels, scale, chance)
                for name, server in sides.items():
                    publish = getattr(publishers[name], way)
                    result = await measure(server, publish, messages)
                    if number >= 0:  # the first is there to warm up
                        found[way][name].append(result)
    return {
        way: {name: medians(rounds) for name, rounds in each.items()} for way, each in found.items()
    }


async def _publisher(server: Redis, stack: contextlib.AsyncExitStack) -> Ways:
    later = AsyncPublisher.from_url(server.url, prefix=PREFIX)
    now = Publisher.from_url(server.url, prefix=PREFIX)
    return Ways(stack.enter_context(now), await stack.enter_async_context(later))


async def _deliveries(sides: Sides, scale: Scale) -> Result:
    """As item 3, through one node on each side."""
    names = users(scale.channels)
    targets = [target(name, f"{NAMESPACE}/{name}") for name in names]
    found: dict[str, dict[str, list[Result]]] = {name: {"steady": [], "full": []} for name in sides}
    async with contextlib.AsyncExitStack() as stack:
        loads: dict[str, Load] = {}
        for name, server in sides.items():
            world = await stack.enter_async_context(world_on(server))
            receiver = await stack.enter_async_context(
                receiving(world.gateway.port, targets, greetings=GREETINGS)
            )
            loads[name] = Load(world, receiver, scale)
            await loads[name].at_rate(scale.steady_rate, scale.steady_seconds / 5)
        for _ in range(scale.rounds):
            for name, load in loads.items():
                steady = await load.at_rate(scale.steady_rate, scale.steady_seconds)
                found[name]["steady"].append(steady)
                found[name]["full"].append(await load.full_speed())
    return {
        name: {how: middle(rounds) for how, rounds in each.items()} for name, each in found.items()
    }
