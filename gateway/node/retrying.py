"""Asking Redis until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.node.pausing import Backoff
from publisher.errors import Unavailable

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
        backoff = Backoff(self._jitter)
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(backoff.next())
