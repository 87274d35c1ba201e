"""One sweep now and then for the whole node: it calls everybody who has something due, without a timer or task per socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.node.ports import Clock
from gateway.node.stats import Stats

log = logging.getLogger(__name__)


class Sweep:
    """Calls everybody who has something to do at certain times.

    Args:
        pause: seconds between two sweeps.
        ticks: what is called in each; each does what is due by then.
    """

    def __init__(
        self, stats: Stats, clock: Clock, pause: float, ticks: tuple[Callable[[], None], ...]
    ) -> None:
        self._stats = stats
        self._clock = clock
        self._pause = pause
        self._ticks = ticks

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            due_at = self._clock() + self._pause
            await asyncio.sleep(self._pause)
            self._stats.event_loop_lag = max(0.0, self._clock() - due_at)
            for tick in self._ticks:
                try:
                    tick()
                except Exception:
                    # A defect in one must not keep the others from what is due.
                    log.exception("tick_failed tick=%r", tick)
