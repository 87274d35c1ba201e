"""How often something may happen: so often at once, and so often in a second."""

from __future__ import annotations


class TokenBucket:
    """What may still be spent: up to ``burst`` tokens, of which ``rate`` come back in a second."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, cost: float, now: float) -> bool:
        """Take ``cost`` tokens; ``False`` when there are too few."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True
