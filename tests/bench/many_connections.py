"""Item 10: what a connection, a publish and a delivery cost when there are many connections, beside a thousand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from publisher import AsyncPublisher
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds, memory_bytes
from tests.bench.receiving import Receiver, receiving
from tests.bench.scale import Scale
from tests.bench.world import (
    GREETINGS,
    NAMESPACE,
    PREFIX,
    ROOM,
    World,
    own_world,
    target_of_all,
    users,
)

Result = dict[str, Any]

_SOCKETS = 12_500
"""Of a receiver: a process may not open as many files as it likes. Each has eight source addresses of its own."""
_WARM_UP = 200


async def many_connections(scale: Scale) -> Result:
    """The same work for each of ``scale.many_connections`` in turn, on a gateway with ``many_workers``."""
    return {
        "workers": scale.many_workers,
        "sizes": {str(size): await _measured(scale, size) for size in scale.many_connections},
    }


async def _measured(scale: Scale, size: int) -> Result:
    async with own_world(workers=scale.many_workers) as world:
        # Code is loaded and caches are filled by the first who come.
        async with _crowd(world, users(_WARM_UP, "warm")):
            pass
        await asyncio.sleep(2 * scale.settle_seconds)
        async with AsyncPublisher.from_url(world.redis.url, prefix=PREFIX) as publisher:
            load = _Load(world, publisher, scale)
            before = load.account()
            async with _crowd(world, users(size)) as crowd:
                await asyncio.sleep(scale.settle_seconds)
                joined = load.account().since(before)
                idle = await load.idle()
                own = await load.rounds(lambda: load.to_each(crowd))
                room = await load.rounds(lambda: load.to_all(crowd))
    return {
        "join_us": joined.gateway / size * 1e6,
        "redis_join_us": joined.redis / size * 1e6,
        "memory_bytes": joined.memory / size,
        "redis_memory_bytes": joined.redis_memory / size,
        "idle_us": idle.gateway / size / scale.idle_seconds * 1e6,
        "redis_idle_us": idle.redis / size / scale.idle_seconds * 1e6,
        "publish": own,
        "delivery": room,
    }


@dataclass(slots=True)
class _Account:
    """CPU seconds and bytes; of Redis also the bytes on its connections."""

    gateway: float
    redis: float
    memory: float
    redis_memory: float
    redis_in: float
    redis_out: float

    def since(self, before: _Account) -> _Account:
        """What has come since then."""
        return _Account(*(getattr(self, each) - getattr(before, each) for each in self.__slots__))


@dataclass(slots=True)
class _Crowd:
    """Users with a socket each: the part of them that each receiver holds."""

    receivers: list[Receiver]
    parts: list[list[str]]

    async def reset(self) -> None:
        for each in self.receivers:
            await each.reset()

    async def report(self, for_each: int) -> None:
        """Wait until everybody has so many messages.

        Raises:
            ReceiverError: some are missing.
        """
        for receiver, part in zip(self.receivers, self.parts, strict=True):
            await receiver.report(for_each * len(part))


@contextlib.asynccontextmanager
async def _crowd(world: World, names: Sequence[str]) -> AsyncIterator[_Crowd]:
    parts = [list(names[first : first + _SOCKETS]) for first in range(0, len(names), _SOCKETS)]
    async with contextlib.AsyncExitStack() as stack:
        receivers = [
            await stack.enter_async_context(
                receiving(
                    world.gateway.port,
                    [target_of_all(name, [f"{NAMESPACE}/{name}", ROOM]) for name in part],
                    greetings=GREETINGS + 1,
                )
            )
            for part in parts
        ]
        yield _Crowd(receivers, parts)


class _Load:
    """Gives a world work, and says what it cost."""

    def __init__(self, world: World, publisher: AsyncPublisher, scale: Scale) -> None:
        self._world = world
        self._publisher = publisher
        self._scale = scale
        self._chance = random.Random(10)
        self._idle_gateway = self._idle_redis = 0.0

    def account(self) -> _Account:
        """What the world has used so far."""
        server = self._world.redis
        with redis.Redis.from_url(server.url) as client:
            memory, stats = client.info("memory"), client.info("stats")
        return _Account(
            cpu_seconds(self._world.pids),
            cpu_seconds(server.pids),
            memory_bytes(self._world.pids),
            memory["used_memory"],
            stats["total_net_input_bytes"],
            stats["total_net_output_bytes"],
        )

    async def idle(self) -> _Account:
        """Nothing, for a whole number of the pings' intervals."""
        before = self.account()
        await asyncio.sleep(self._scale.idle_seconds)
        found = self.account().since(before)
        self._idle_gateway = found.gateway / self._scale.idle_seconds
        self._idle_redis = found.redis / self._scale.idle_seconds
        return found

    async def rounds(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """The median of each figure; the first round, in which logs begin, is not counted."""
        await work()
        found = [await work() for _ in range(self._scale.rounds)]
        return {name: statistics.median(each[name] for each in found) for name in found[0]}

    async def to_each(self, crowd: _Crowd) -> Result:
        """A message to each user as fast as they can be published, several times, in an order that is none.

        Each of them is confirmed by itself, as there is time between: so few and many users get the same work.
        """
        channels = [f"{NAMESPACE}/{name}" for part in crowd.parts for name in part]
        times = max(1, min(self._scale.many_broadcasts, self._scale.full_messages // len(channels)))
        made = message(self._scale.message_bytes)

        async def send() -> None:
            for _ in range(times):
                self._chance.shuffle(channels)
                await self._publish([(channel, made) for channel in channels])
                await asyncio.sleep(self._scale.many_interval)

        count = times * len(channels)
        return await self._measure(crowd, send, times, count, count)

    async def to_all(self, crowd: _Crowd) -> Result:
        """Messages that everybody gets, one after the other."""
        count = self._scale.many_broadcasts

        async def send() -> None:
            for _ in range(count):
                began = time.monotonic()
                await self._publish([(ROOM, message(self._scale.message_bytes))])
                rest = self._scale.many_interval - (time.monotonic() - began)
                await asyncio.sleep(max(0.0, rest))

        sockets = sum(map(len, crowd.parts))
        return await self._measure(crowd, send, count, count, count * sockets)

    async def _publish(self, messages: Sequence[tuple[str, Any]]) -> None:
        for outcome in await self._publisher.publish_many(messages):
            if isinstance(outcome, Exception):
                raise outcome

    async def _measure(
        self,
        crowd: _Crowd,
        send: Callable[[], Awaitable[None]],
        for_each: int,
        published: int,
        delivered: int,
    ) -> Result:
        await crowd.reset()
        before, began = self.account(), time.monotonic()
        await send()
        await crowd.report(for_each)
        await asyncio.sleep(self._scale.settle_seconds)
        used, seconds = self.account().since(before), time.monotonic() - began
        # What the connections cost anyway is a figure of its own.
        return {
            "us": (used.gateway - seconds * self._idle_gateway) / delivered * 1e6,
            "redis_us": (used.redis - seconds * self._idle_redis) / delivered * 1e6,
            "redis_in_bytes": used.redis_in / published,
            "redis_out_bytes": used.redis_out / published,
        }
