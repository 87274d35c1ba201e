"""Publishers that number their messages and do not rest until each is published."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import count
from typing import Final

from publisher import AsyncPublisher, Published, Retention, Unavailable
from tests.faults.backend import Backend
from tests.faults.trace import Attempt, Outcome, Publication, Trace

LONG: Final = Retention(max_messages=20_000, max_age_seconds=86_400)
_FIRST_PAUSE_SECONDS: Final = 0.1


class NumberedPublisher(Backend):
    """Publishes ``1, 2, 3, …`` to a channel, one after the other, about ``rate`` a second.

    A publish that may or may not have taken effect is repeated under the same idempotency key, as the
    library's documentation tells backends to, so each number is published once. Without keys nothing is
    repeated, and what the library said of each publish is kept.

    Args:
        padding: bytes of further data in each message.
        keyed: whether each has an idempotency key.
        retention: what the channel's log keeps.
    """

    def __init__(
        self,
        publisher: AsyncPublisher,
        channel: str,
        trace: Trace,
        dice: random.Random,
        rate: float,
        padding: int = 0,
        *,
        keyed: bool = True,
        retention: Retention = LONG,
    ) -> None:
        super().__init__()
        self._publisher = publisher
        self._channel = channel
        self._trace = trace
        self._dice = dice
        self._pause = 1 / rate
        self._padding = "x" * padding
        self._keyed = keyed
        self._retention = retention

    async def run(self) -> None:
        """Publish until stopped."""
        for number in count(1):
            if await self._stopped_within(self._pause * self._dice.uniform(0.5, 1.5)):
                return
            await self._publish(number)

    async def _publish(self, number: int) -> None:
        asked_at, unsure = time.monotonic(), False
        for tries in count(1):
            try:
                published = await self._once(number)
            except Unavailable as error:
                unsure = unsure or error.maybe_sent
                if not self._keyed:
                    outcome = Outcome.MAYBE_SENT if unsure else Outcome.NOT_SENT
                    self._attempted(number, asked_at, outcome)
                    return
                await asyncio.sleep(_FIRST_PAUSE_SECONDS * self._dice.uniform(1, 3))
                continue
            self._trace.publications.append(
                Publication(
                    self._channel,
                    number,
                    published.id,
                    asked_at,
                    time.monotonic(),
                    tries,
                    duplicate=published.duplicate,
                    unsure=unsure,
                )
            )
            if not self._keyed:
                self._attempted(number, asked_at, Outcome.SENT, published.id)
            return

    def _attempted(self, number: int, asked_at: float, outcome: Outcome, id: int = 0) -> None:
        self._trace.attempts.append(Attempt(self._channel, number, asked_at, outcome, id))

    async def _once(self, number: int) -> Published:
        return await self._publisher.publish(
            self._channel,
            {"number": number, "padding": self._padding},
            idempotency_key=f"{self._channel}/{number}" if self._keyed else None,
            retention=self._retention,
        )
