"""When things are due: pings, expiries, what a client may say, pauses between attempts. Times are passed in.

When to ping whom, and who has not answered.

One wheel for a node, no timer per socket: each connection has a fixed slot, found at random, so that
the pings of a crowd that came together are spread over the interval.

How much a client may say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, Generic, TypeVar

K = TypeVar("K")

_SLOTS = 60


@dataclass(frozen=True, slots=True)
class Due(Generic[K]):
    """What a moment asks for."""

    ping: list[K]
    expired: list[K]


@dataclass(slots=True)
class _Round(Generic[K]):
    """Pings sent at one moment."""

    sent_at: float
    deadline: float
    keys: list[K]


class Liveness(Generic[K]):
    """Times are seconds of any one monotonic clock, passed in.

    Args:
        interval: seconds between two pings of a connection.
        timeout: seconds after a ping within which something must have been heard.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self.tick = interval / _SLOTS
        self._timeout = timeout
        self._slots: list[set[K]] = [set() for _ in range(_SLOTS)]
        self._slot_of: dict[K, set[K]] = {}
        self._heard: dict[K, float] = {}
        self._awaited: deque[_Round[K]] = deque()
        self._turned = now
        self._asked = now
        self._hand = 0

    def add(self, key: K, now: float, place: float) -> None:
        """Watch ``key``; its first ping comes after ``place`` (0 to 1) of the interval."""
        ahead = 1 + min(int(place * _SLOTS), _SLOTS - 1)
        slot = self._slots[(self._hand + ahead) % _SLOTS]
        slot.add(key)
        self._slot_of[key] = slot
        self._heard[key] = now

    def remove(self, key: K) -> None:
        """Forget ``key``; an unknown one is no error."""
        if (slot := self._slot_of.pop(key, None)) is not None:
            slot.discard(key)
            del self._heard[key]

    def heard(self, key: K, now: float) -> None:
        """A pong came. One that answers a later ping answers the earlier too (RFC 6455 §5.5.3)."""
        if key in self._heard:
            self._heard[key] = now

    def due(self, now: float) -> Due[K]:
        """Turn the wheel to ``now``: whom to ping, and whose pong is overdue.

        To be called about every ``tick`` seconds. When the process itself stood still, pongs may be
        waiting unread: the deadlines move by as much.
        """
        stalled = now - self._asked
        self._asked = now
        if stalled > 2 * self.tick:
            for round_ in self._awaited:
                round_.deadline += stalled
        ticks = int((now - self._turned) / self.tick)
        self._turned += ticks * self.tick
        ping: list[K] = []
        # After a long stall everybody is due, but nobody twice.
        for _ in range(min(ticks, _SLOTS)):
            self._hand = (self._hand + 1) % _SLOTS
            ping.extend(self._slots[self._hand])
        expired = self._overdue(now)
        if ping:
            self._awaited.append(_Round(now, now + self._timeout, ping))
        return Due(ping, expired)

    def _overdue(self, now: float) -> list[K]:
        expired: list[K] = []
        while self._awaited and self._awaited[0].deadline <= now:
            asked = self._awaited.popleft()
            expired += [
                key for key in asked.keys if self._heard.get(key, asked.sent_at) < asked.sent_at
            ]
        return expired


class Expiries(Generic[K]):
    """Keys by the moment they end, in whole seconds, each to be taken out again at any time."""

    def __init__(self, now: float) -> None:
        self._checked = int(now)
        self._ending: dict[int, set[K]] = {}
        self._second_of: dict[K, int] = {}

    def expect(self, key: K, at: float) -> None:
        """``key`` ends at ``at``; replaces what was expected of it before."""
        self.forget(key)
        # A moment that is already past is met at the next look.
        second = max(ceil(at), self._checked + 1)
        self._ending.setdefault(second, set()).add(key)
        self._second_of[key] = second

    def forget(self, key: K) -> None:
        """Expect nothing of ``key`` any more; an unknown one is no error."""
        second = self._second_of.pop(key, None)
        if second is not None:
            keys = self._ending[second]
            keys.discard(key)
            if not keys:
                del self._ending[second]

    def due(self, now: float) -> list[K]:
        """The keys that have ended since the last look; they are forgotten."""
        seconds: Sequence[int] = range(self._checked + 1, int(now) + 1)
        if len(seconds) > len(self._ending):
            # The clock was set: do not walk through all the time it left out.
            seconds = sorted(second for second in self._ending if second <= now)
        ended = [key for second in seconds for key in self._ending.pop(second, ())]
        self._checked = int(now)  # also when the clock was set back
        for key in ended:
            del self._second_of[key]
        return ended


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` of them a second."""

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


_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 1.0


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
