"""Whose turn it is to be let in: so many handshakes in a second, and the others in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.core.rate_limit import TokenBucket
from gateway.node.ports import Clock
from gateway.node.stats import Stats

LONGEST_SECONDS: Final = 15.0
"""How long one may wait: as many may as have their turns by then."""
_BURST_SECONDS: Final = 0.1
"""So much of the rate may go at once."""
_SHORTEST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.5


class _Waiting(NamedTuple):
    turn: asyncio.Future[bool]
    waits: Callable[[], bool]
    until: float


class HandshakeQueue:
    """Gives turns.

    Args:
        rate: how many in a second.
        is_open: whether anybody is let in at the moment; if not, nobody goes on waiting.
        stats: told how many wait.
    """

    def __init__(
        self, rate: float, is_open: Callable[[], bool], stats: Stats, clock: Clock
    ) -> None:
        self._bucket = TokenBucket(rate, max(1.0, rate * _BURST_SECONDS), clock())
        self._most = int(rate * LONGEST_SECONDS)
        self._pause = min(max(1 / rate, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        self._is_open = is_open
        self._stats = stats
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self, waits: Callable[[], bool]) -> bool:
        """Return when it is the caller's turn; ``False`` when it gets none.

        Args:
            waits: whether its client still does. One that has gone takes no turn.
        """
        now = self._clock()
        if not self._waiting and self._bucket.take(1.0, now):
            return True
        if len(self._waiting) >= self._most:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        # The last one may have to wait for the next look besides.
        self._waiting.append(_Waiting(turn, waits, now + LONGEST_SECONDS + self._pause))
        self._go_on()
        return await turn

    def _serve(self) -> None:
        """Give all turns that are due."""
        self._timer = None
        now = self._clock()
        is_open = self._is_open()
        while self._waiting:
            first = self._waiting[0]
            has_gone = first.turn.done() or not first.waits()
            gets_none = not is_open or has_gone or first.until < now
            if not gets_none and not self._bucket.take(1.0, now):
                break
            self._waiting.popleft()
            if not first.turn.done():
                first.turn.set_result(not gets_none)
        self._go_on()

    def _go_on(self) -> None:
        self._stats.handshakes_waiting = len(self._waiting)
        if self._waiting and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pause, self._serve)
