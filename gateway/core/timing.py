"""When something is due: a ping and its answer, an expiry, a client's next message, another attempt.

Nothing here reads a clock: the caller passes the time, in seconds. Everything is bounded by what is due,
not by what is waited for, since one node waits for tens of thousands of connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Final, Generic, TypeVar

K = TypeVar("K")

_SLOTS: Final = 60


@dataclass(frozen=True, slots=True)
class Due(Generic[K]):
    """Whom to ping now, and whose answer to an earlier ping is overdue."""

    ping: list[K]
    expired: list[K]


@dataclass(frozen=True, slots=True)
class _Round(Generic[K]):
    """Pings sent at one moment. ``deadline`` does not count the time in which the process stood still."""

    sent_at: float
    deadline: float
    keys: list[K]


class Liveness(Generic[K]):
    """Whom to ping when, and who has not answered, on any one monotonic clock.

    One wheel for a node, no timer per socket. Each key has a fixed slot of the wheel, given by ``place``
    in :meth:`add`: random places spread the pings of a crowd that came together over the interval.

    Args:
        interval: seconds between two pings of a key.
        timeout: seconds after a ping within which something must have been heard.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self.tick = interval / _SLOTS
        self._timeout = timeout
        self._slots: list[set[K]] = [set() for _ in range(_SLOTS)]
        self._slot_of: dict[K, set[K]] = {}
        self._heard: dict[K, float] = {}
        self._awaited: deque[_Round[K]] = deque()
        self._prolonged: dict[K, float] = {}
        self._turned = now
        self._looked = now
        self._stood_still = 0.0
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
            self._prolonged.pop(key, None)

    def heard(self, key: K, now: float) -> None:
        """A pong came. One that answers a later ping answers the earlier too (RFC 6455 §5.5.3)."""
        if key in self._heard:
            self._heard[key] = now

    def last_heard(self, key: K) -> float | None:
        """When ``key`` was heard last, or added; ``None`` for an unknown one."""
        return self._heard.get(key)

    def prolong(self, key: K, now: float) -> None:
        """``key`` lives, though its pong is overdue: it may take as long again, whatever was sent before ``now``."""
        if key in self._heard:
            deadline = self._prolonged[key] = now - self._stood_still + self._timeout
            self._awaited.append(_Round(now, deadline, [key]))

    def due(self, now: float) -> Due[K]:
        """Turn the wheel to ``now``: whom to ping, and whose pong is overdue.

        To be called about every ``tick`` seconds. When the process itself stood still, pongs may be
        waiting unread: all deadlines move by as much.
        """
        since_last = now - self._looked
        self._looked = now
        if since_last > 2 * self.tick:
            self._stood_still += since_last
        ping = self._turn(now)
        overdue = self._overdue(now - self._stood_still)
        if ping:
            self._awaited.append(_Round(now, now - self._stood_still + self._timeout, ping))
        return Due(ping, overdue)

    def _turn(self, now: float) -> list[K]:
        ticks = int((now - self._turned) / self.tick)
        self._turned += ticks * self.tick
        ping: list[K] = []
        # After a long stall everybody is due, but nobody twice.
        for _ in range(min(ticks, _SLOTS)):
            self._hand = (self._hand + 1) % _SLOTS
            ping.extend(self._slots[self._hand])
        return ping

    def _overdue(self, running: float) -> list[K]:
        """Who has not answered by ``running``, the time without that in which the process stood still."""
        overdue: list[K] = []
        while self._awaited and self._awaited[0].deadline <= running:
            asked = self._awaited.popleft()
            overdue += [
                key
                for key in asked.keys
                if self._heard.get(key, asked.sent_at) < asked.sent_at
                and self._prolonged.get(key, asked.deadline) <= asked.deadline
            ]
        return overdue


EXPIRY_STEP: Final = 0.25
"""Seconds. An expiry is noticed at most this long after its moment, and never before it."""


class Expiries(Generic[K]):
    """Keys by the moment they end, each to be taken out again at any time.

    The clock may be set: forward and everything that has ended is due at once, back and nothing is due
    before its moment.
    """

    def __init__(self, now: float) -> None:
        self._looked = floor(now / EXPIRY_STEP)
        self._ending: dict[int, set[K]] = {}
        self._step_of: dict[K, int] = {}

    def expect(self, key: K, at: float) -> None:
        """``key`` ends at ``at``; replaces what was expected of it before."""
        self.forget(key)
        # A moment that is already past is met at the next look.
        step = max(ceil(at / EXPIRY_STEP), self._looked + 1)
        self._ending.setdefault(step, set()).add(key)
        self._step_of[key] = step

    def __contains__(self, key: K) -> bool:
        return key in self._step_of

    def forget(self, key: K) -> None:
        """Expect nothing of ``key`` any more; an unknown one is no error."""
        step = self._step_of.pop(key, None)
        if step is not None:
            keys = self._ending[step]
            keys.discard(key)
            if not keys:
                del self._ending[step]

    def due(self, now: float) -> list[K]:
        """The keys that have ended since the last look; they are forgotten."""
        reached = floor(now / EXPIRY_STEP)
        steps: Sequence[int] = range(self._looked + 1, reached + 1)
        if len(steps) > len(self._ending):
            # The clock was set: do not walk through all the time it left out.
            steps = sorted(step for step in self._ending if step <= reached)
        ended = [key for step in steps for key in self._ending.pop(step, ())]
        self._looked = reached  # also when the clock was set back
        for key in ended:
            del self._step_of[key]
        return ended


_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 1.0


class Backoff:
    """The pauses before further attempts: doubled up to a second, and jittered.

    They are no longer, because a node is to be ready within three seconds after Redis answers again. They
    are jittered, because all nodes and all their waiting clients ask at the same time.

    Args:
        jitter: a number from 0 to 1.
        longest: the longest pause, in seconds.
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
