"""How often something may happen: so often at once and so often in a second, or so often in a period."""

from __future__ import annotations

import math
from collections import Counter


class TokenBucket:
    """What may still be spent: up to ``burst`` tokens, of which ``rate`` come back in a second."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def has(self, cost: float, now: float) -> bool:
        """Whether there are ``cost`` tokens."""
        return min(self._burst, self._tokens + (now - self._filled_at) * self._rate) >= cost

    def take(self, cost: float, now: float) -> bool:
        """Take ``cost`` tokens; ``False`` when there are too few."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True


class Quota:
    """How often each of many may do something within a period; all begin anew with the next one.

    Args:
        most: so often.
        seconds: of a period.
        now: seconds of a monotonic clock.
        who: so many are counted. With one more a new period begins: nobody is held to what cannot be counted.
    """

    def __init__(self, most: int, seconds: float, now: float, who: float = math.inf) -> None:
        self._most = most
        self._seconds = seconds
        self._who = who
        self._began = now
        self._taken: Counter[str] = Counter()

    def take(self, who: str, now: float) -> bool:
        """Count once more for ``who``; ``False`` when that was all for this period."""
        full = who not in self._taken and len(self._taken) >= self._who
        if full or now - self._began >= self._seconds:
            self._began = now
            self._taken.clear()
        if self._taken[who] >= self._most:
            return False
        self._taken[who] += 1
        return True

    def wait(self, who: str, now: float) -> float:
        """In how many seconds ``who`` may do it again; 0 when they may now."""
        if self._taken[who] < self._most:
            return 0.0
        return max(0.0, self._began + self._seconds - now)
