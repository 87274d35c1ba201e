"""Asking Redis until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from publisher.errors import Unavailable

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0

T = TypeVar("T")


class Insist:
    """Repeats a question with growing, jittered pauses: a client that has no answer yet has lost nothing.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``ask``, however often it has to be asked."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(pause * (0.5 + self._jitter()))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
