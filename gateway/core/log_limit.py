"""How often a line is logged that anybody can cause."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from gateway.core.rate_limit import TokenBucket

_PER_SECOND: Final = 0.1
_MOST_KINDS: Final = 100
_MOST_TOLD: Final = 100

T = TypeVar("T")


class LogLimit:
    """Lets a few lines of each kind pass at once, and then one in ten seconds.

    Args:
        now: seconds of a monotonic clock.
        burst: how many pass at once.
    """

    def __init__(self, now: float, burst: float = 10.0) -> None:
        self._now = now
        self._burst = burst
        self._buckets: dict[str, TokenBucket] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, kind: str, now: float) -> int | None:
        """How many lines of this kind were left out since the last one; ``None`` when this one is left out too.

        Args:
            kind: one of a few words; after a hundred the others are one kind.
            now: seconds of the same clock.
        """
        if kind not in self._buckets and len(self._buckets) >= _MOST_KINDS:
            kind = ""
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(_PER_SECOND, self._burst, self._now)
        if not bucket.take(1.0, now):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        return self._left_out.pop(kind, 0)


class FirstTimes(Generic[T]):
    """Lets one line of each thing pass, and of a hundred things at most."""

    def __init__(self) -> None:
        self._told: set[T] = set()

    def admit(self, thing: T) -> bool:
        """Whether it is to be told of: it was not yet."""
        if thing in self._told or len(self._told) >= _MOST_TOLD:
            return False
        self._told.add(thing)
        return True

    def forget(self, thing: T) -> None:
        """It is over: when it comes again it is told again. What was not told of is no error."""
        self._told.discard(thing)
