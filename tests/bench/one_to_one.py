"""Items 3 and 9: many channels with one socket each, messages to channels at random, published durably."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from publisher import Publisher
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds
from tests.bench.receiving import Receiver, receiving
from tests.bench.scale import Scale
from tests.bench.servers import floor_server
from tests.bench.world import GREETINGS, NAMESPACE, PREFIX, World, own_world, target, users

Result = dict[str, Any]

_BATCH = 500
_PARTS = (0.25, 0.5, 0.75)


async def one_to_one(scale: Scale) -> Result:
    """CPU for each delivered message at a steady rate and at full speed, and latencies between."""
    names = users(scale.channels)
    targets = [target(name, f"{NAMESPACE}/{name}") for name in names]
    async with own_world() as world:
        async with receiving(world.gateway.port, targets, greetings=GREETINGS) as receiver:
            load = Load(world, receiver, scale)
            await load.at_rate(scale.steady_rate, scale.steady_seconds / 5)
            steady = await load.at_rate(scale.steady_rate, scale.steady_seconds)
            full = await load.full_speeds()
            parts = {
                f"{part:.0%}": await load.at_rate(full["rate"] * part, scale.latency_seconds)
                for part in _PARTS
            }
    return {"steady": steady, "full": full, "parts": parts, "floor": await _floor(scale)}


async def _floor(scale: Scale) -> Result | None:
    """CPU for each message at the steady rate of a C program that does no more than send it."""
    async with floor_server("one") as floor:
        if floor is None:
            return None
        async with receiving(floor.port, floor.targets(scale.channels), greetings=0) as receiver:
            before = cpu_seconds(floor.pids)
            count = await asyncio.to_thread(_send_lines, floor.input, scale)
            await receiver.report(count)
            return {"us_per_delivery": (cpu_seconds(floor.pids) - before) / count * 1e6}


def _send_lines(file: int, scale: Scale) -> int:
    line = orjson.dumps(message(scale.message_bytes)) + b"\n"

    def send(first: int, beyond: int) -> None:
        os.write(file, line * (beyond - first))

    return _paced(scale.steady_rate, scale.steady_seconds, send)


def _paced(rate: float, seconds: float, send: Callable[[int, int], None]) -> int:
    """Send messages by their numbers when they are due, together with others only where it is late."""
    count = max(1, int(rate * seconds))
    begin = time.monotonic()
    sent = 0
    while sent < count:
        due = min(count, int((time.monotonic() - begin) * rate) + 1)
        if due == sent:
            time.sleep(max(0.0, begin + sent / rate - time.monotonic()))
            continue
        send(sent, due)
        sent = due
    return count


async def workers(scale: Scale) -> Result:
    """Item 9: the same at full speed, by one process and by two that share the port."""
    names = users(scale.channels)
    targets = [target(name, f"{NAMESPACE}/{name}") for name in names]
    found: Result = {}
    for count in (1, 2):
        async with own_world(workers=count) as world:
            async with receiving(world.gateway.port, targets, greetings=GREETINGS) as receiver:
                load = Load(world, receiver, scale)
                await load.at_rate(scale.steady_rate, scale.steady_seconds / 5)
                found[str(count)] = await load.full_speeds()
    return found


class Load:
    """Publishes from a thread of its own: the timing of a paced load is not asyncio's."""

    def __init__(self, world: World, receiver: Receiver, scale: Scale) -> None:
        self._world = world
        self._receiver = receiver
        self._scale = scale
        self._chance = random.Random(3)
        self._names = [f"{NAMESPACE}/{name}" for name in users(scale.channels)]

    async def at_rate(self, rate: float, seconds: float) -> Result:
        """Publish each message when it is due, together with others only where it is late."""
        return await self._measure(lambda publisher: self._paced(publisher, rate, seconds))

    async def full_speed(self) -> Result:
        """Publish as fast as can be."""
        return await self._measure(self._all)

    async def full_speeds(self) -> Result:
        """The same several times; the one in the middle by what it cost."""
        return middle([await self.full_speed() for _ in range(self._scale.rounds)])

    async def _measure(self, publish: Callable[[Publisher], int]) -> Result:
        gateway, server = self._world.pids, self._world.redis.pids
        with Publisher.from_url(self._world.redis.url, prefix=PREFIX) as publisher:
            await self._receiver.reset()
            before, redis_before = cpu_seconds(gateway), cpu_seconds(server)
            began = time.monotonic()
            count = await asyncio.to_thread(publish, publisher)
            report = await self._receiver.report(count)
            seconds = time.monotonic() - began
            await asyncio.sleep(self._scale.settle_seconds)
            used = cpu_seconds(gateway) - before
            redis_used = cpu_seconds(server) - redis_before
        return {
            "us_per_delivery": used / count * 1e6,
            "redis_us_per_message": redis_used / count * 1e6,
            "rate": count / seconds,
            **report,
        }

    def _paced(self, publisher: Publisher, rate: float, seconds: float) -> int:
        # The stamp is the time a message is due, so that a publisher that falls behind hides nothing.
        begin = time.time_ns()

        def send(first: int, beyond: int) -> None:
            stamps = (begin + int(number / rate * 1e9) for number in range(first, beyond))
            _publish(publisher, [self._message(stamp) for stamp in stamps])

        return _paced(rate, seconds, send)

    def _all(self, publisher: Publisher) -> int:
        count = self._scale.full_messages
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            _publish(publisher, [self._message(None) for _ in range(size)])
        return count

    def _message(self, stamp: int | None) -> tuple[str, Any]:
        made = message(self._scale.message_bytes)
        if stamp is not None:
            made["sent"] = stamp
        return self._chance.choice(self._names), made


def middle(found: Sequence[Result]) -> Result:
    """The one in the middle by what a delivery cost."""
    return sorted(found, key=lambda each: each["us_per_delivery"])[len(found) // 2]


def _publish(publisher: Publisher, messages: list[tuple[str, Any]]) -> None:
    for outcome in publisher.publish_many(messages):
        if isinstance(outcome, Exception):
            raise outcome
