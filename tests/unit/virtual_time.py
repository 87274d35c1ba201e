"""An event loop whose time passes at once: it waits for nothing, so a test of pauses takes none."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Instant(selectors.SelectSelector):
    """Lets the time pass that it would wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing will ever happen"
            self.passed += timeout
        return ready


class VirtualTime(asyncio.SelectorEventLoop):
    """For what waits for timers and for nothing outside."""

    def __init__(self) -> None:
        self._instant = _Instant()
        super().__init__(self._instant)

    def time(self) -> float:
        """Seconds since it was made."""
        return self._instant.passed


def run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run on such a loop; what is still there at the end is cancelled."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(work)
