"""The bucket that a client pays from, and the prices. What pays which price: ``node/requests.py``."""

from __future__ import annotations

from typing import Final

# In tokens of the connection's bucket. A broken client that repeats its mistake is cut off soon.
MESSAGE_COST: Final = 1.0
MISTAKE_COST: Final = 20.0
PONG_COST: Final = 0.1
"""The server asks for pongs itself, up to once a second and channel."""


class TokenBucket:
    """What a client may still spend: up to ``burst`` tokens, of which ``rate`` come back in a second."""

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
