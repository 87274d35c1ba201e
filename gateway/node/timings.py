"""How long things take, in histograms that cost the hot path an addition, and no object.

What is measured from a publish on begins with the message's id, which is the microsecond of its publish by the clock of
Redis; so this node has to know how far its own clock is from that one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from typing import Final

from gateway.node.ports import Clock

BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Seconds. The upper ends of the buckets of all histograms, so that they can be compared; there is one more without an end."""

HANDSHAKE_PHASES: Final = ("token", "turn", "place", "start")
SUBSCRIBE_PHASES: Final = ("access", "log")

_ANSWERS: Final = 6
"""Of so many answers of Redis' the one counts that came fastest: it says most exactly what time it is there."""


class Histogram:
    """Counts durations: ``counts`` for each of ``BOUNDS`` and one for what is longer; ``total`` is their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class RedisClock:
    """What time it is by the clock of Redis, as far as this node can know: to half a round trip.

    In a cluster it is that of whichever primary has answered; they differ by as much as their machines' clocks do.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: deque[tuple[float, float]] = deque(maxlen=_ANSWERS)
        self._ahead: float | None = None

    def learn(self, microseconds: int, asked_at: float) -> None:
        """Redis has just answered a question of ``asked_at`` (seconds of the node's clock) with its time."""
        now = self._clock()
        self._answers.append((now - asked_at, microseconds / 1e6 - (now + asked_at) / 2))
        self._ahead = min(self._answers)[1]

    def now(self) -> int | None:
        """Microseconds since 1970, as ids are; ``None`` while Redis has not told its time."""
        if self._ahead is None:
            return None
        return round((self._clock() + self._ahead) * 1e6)

    def age(self, id: int) -> float | None:
        """Seconds since an id was given, at least 0; ``None`` while Redis has not told its time."""
        if self._ahead is None:
            return None
        return max(0.0, self._clock() + self._ahead - id / 1e6)


class RoundTrips:
    """What was written to Redis and answered. ``writes`` counts all; of a connection one at a time is measured."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.writes = 0
        self.seconds = Histogram()

    def written(self) -> float:
        """Commands have left in one write; returns when."""
        self.writes += 1
        return self._clock()

    def answered(self, written_at: float) -> None:
        """The last of them has its reply."""
        self.seconds.observe(self._clock() - written_at)


class Timings:
    """What a node measures.

    Args:
        clock: the event loop's where none is given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or (lambda: asyncio.get_running_loop().time())
        self.redis_clock = RedisClock(self.clock)
        self.round_trips = RoundTrips(self.clock)
        self.publish_to_write = Histogram()
        self.publish_to_confirmation = Histogram()
        self.handshake = {phase: Histogram() for phase in HANDSHAKE_PHASES}
        self.subscribe = {phase: Histogram() for phase in SUBSCRIBE_PHASES}
        self._oldest = 0

    def laid(self, id: int) -> None:
        """A message was laid into the outboxes. The first of a turn is measured; the others came with it or later."""
        if not self._oldest:
            self._oldest = id

    def written(self) -> None:
        """All outboxes are empty: the message has been written to the last of its sockets."""
        if self._oldest:
            self._since(self._oldest, self.publish_to_write)
            self._oldest = 0

    def confirmed(self, id: int) -> None:
        """A user has confirmed a message that was published while they were connected."""
        self._since(id, self.publish_to_confirmation)

    def _since(self, id: int, histogram: Histogram) -> None:
        age = self.redis_clock.age(id)
        if age is not None:
            histogram.observe(age)

    def phase(self, histograms: dict[str, Histogram], phase: str, since: float) -> float:
        """A phase that began at ``since`` is over; returns when, for the next one."""
        now = self.clock()
        histograms[phase].observe(now - since)
        return now
