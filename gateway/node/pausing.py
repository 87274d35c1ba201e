"""How long loops wait: pauses that can be cut short, and pauses that grow while something fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 1.0


class Pause:
    """A sleep that somebody else can end."""

    def __init__(self) -> None:
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """End the sleep; one that has not begun ends as it begins."""
        self._cut.set()

    async def __call__(self, seconds: float) -> None:
        """Sleep."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cut.wait()
        self._cut.clear()


class Backoff:
    """The pauses before further attempts: doubled up to a second, and jittered.

    No longer than that, since a node is to be ready within three seconds after Redis answers again; no
    shorter and not in step, since all nodes and all their waiting clients ask at the same time.

    Args:
        jitter: a number from 0 to 1.
        longest: seconds, where nobody is to be ready within three.
    """

    def __init__(self, jitter: Callable[[], float], longest: float = _LONGEST_SECONDS) -> None:
        self._jitter = jitter
        self._longest = longest
        self._seconds = _FIRST_SECONDS

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        seconds, self._seconds = self._seconds, min(self._seconds * 2, self._longest)
        return seconds * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        """An attempt succeeded."""
        self._seconds = _FIRST_SECONDS
