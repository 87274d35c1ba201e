"""Asking Redis what time it is: messages carry it, and how late they are is measured by it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from gateway.node.ports import Clock
from gateway.node.timings import RedisClock
from publisher.contract.calls import Call
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

_INTERVAL_SECONDS: Final = 5.0
"""Clocks of two machines drift apart by some microseconds meanwhile; a clock that was set is noticed."""


class RedisTime:
    """Tells ``redis_clock`` what Redis says."""

    def __init__(self, pipeline: Calls, redis_clock: RedisClock, clock: Clock) -> None:
        self._pipeline = pipeline
        self._redis_clock = redis_clock
        self._clock = clock

    async def run(self) -> None:
        """Ask until cancelled. What Redis does not answer is asked again: nothing but measurements waits for it."""
        while True:
            with contextlib.suppress(Unavailable):
                await self.ask()
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def ask(self) -> None:
        """Ask once.

        Raises:
            Unavailable: Redis did not answer, or this user may not ask.
        """
        asked_at = self._clock()
        seconds, microseconds = await self._pipeline.call(Call(("TIME",)))
        self._redis_clock.learn(int(seconds) * 1_000_000 + int(microseconds), asked_at)
