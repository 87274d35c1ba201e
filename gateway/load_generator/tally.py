"""What became of the messages of a load: pure, so that its arithmetic can be tested."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Final

_PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Messages:
    """How many there were. ``losses_told``: how often a client was told that it has missed some."""

    published: int
    failed: int
    received: int
    lost: int
    repeated: int
    losses_told: int


@dataclass(frozen=True, slots=True)
class Result:
    """A load and what it has shown. ``rate`` is messages a second, ``latency_ms`` milliseconds by percentile."""

    connections: int
    seconds: float
    rate: float
    messages: Messages
    latency_ms: dict[str, float]

    @property
    def is_good(self) -> bool:
        """Whether everything was published, and has arrived."""
        return not self.messages.lost and not self.messages.failed


class Tally:
    """Counts messages by their numbers."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}
        self._latencies = array("d")
        self.published = 0
        self.failed = 0
        self.repeated = 0
        self.losses_told = 0

    @property
    def missing(self) -> int:
        """How many messages were published, and have not arrived."""
        return len(self._due)

    def publishing(self, number: int, due: float) -> None:
        """A message is published that was due at this second; it may arrive before the publish has returned."""
        self._due[number] = due

    def done(self) -> None:
        """A publish has succeeded."""
        self.published += 1

    def fails(self, number: int) -> None:
        """A publish has failed: whether it arrives says nothing."""
        self._due.pop(number, None)
        self.failed += 1

    def arrived(self, number: int, now: float) -> None:
        """A message has come."""
        due = self._due.pop(number, None)
        if due is None:
            self.repeated += 1
        else:
            self._latencies.append(now - due)

    def result(self, connections: int, seconds: float) -> Result:
        """What all this comes to."""
        messages = Messages(
            published=self.published,
            failed=self.failed,
            received=len(self._latencies),
            lost=self.missing,
            repeated=self.repeated,
            losses_told=self.losses_told,
        )
        return Result(
            connections=connections,
            seconds=round(seconds, 3),
            rate=round(self.published / seconds, 1) if seconds else 0.0,
            messages=messages,
            latency_ms=percentiles(self._latencies),
        )


def percentiles(seconds: array[float]) -> dict[str, float]:
    """The smallest value that so many are not above (nearest rank), in milliseconds; nothing without values."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        name: round(ordered[max(0, math.ceil(part * len(ordered)) - 1)] * 1000, 3)
        for name, part in _PERCENTILES.items()
    }
