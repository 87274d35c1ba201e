"""How often strangers at one address have shown no valid token, and whether that is enough for this minute."""

from __future__ import annotations

from typing import Final

from gateway.core.rate_limit import Quota
from gateway.node.ports import Clock
from gateway.node.stats import Stats

_PERIOD_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
"""Who has more of them can have as many as they like: then all begin anew, and nobody else is kept out."""


class FailedAuthentications:
    """Counts them for each address; all begin anew with each minute.

    Args:
        most: of an address, in a minute.
        stats: told how many addresses have reached that.
    """

    def __init__(self, most: int, stats: Stats, clock: Clock) -> None:
        self._stats = stats
        self._clock = clock
        self._quota = Quota(most, _PERIOD_SECONDS, clock(), _MOST_ADDRESSES)

    def note(self, block: str | None) -> None:
        """One more; ``None`` where nobody knows from where, or a proxy stands for many."""
        now = self._clock()
        if block is not None and self._quota.take(block, now) and self._quota.wait(block, now):
            self._stats.addresses_blocked += 1

    def wait(self, block: str | None) -> float:
        """In how many seconds strangers from there are told again why; 0 where they are told now."""
        return 0.0 if block is None else self._quota.wait(block, self._clock())
