"""What happened in a scenario, as those who took part saw it. Times are ``time.monotonic`` seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Publication(NamedTuple):
    """A numbered message whose publish has succeeded, be it after some tries."""

    channel: str
    number: int
    id: int
    asked_at: float
    published_at: float
    tries: int = 1


class Arrival(NamedTuple):
    """A data message that came to a client."""

    at: float
    channel: str
    id: int
    number: int


class LossReport(NamedTuple):
    """A client was told that messages of a channel are gone."""

    at: float
    channel: str


@dataclass
class Session:
    """One connection of a device, from ``connected`` to its end (``ended_at`` is ``None`` until then)."""

    opened_at: float
    ended_at: float | None = None
    close_code: int | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    reports: list[LossReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answered: dict[str, float] = field(default_factory=dict)
    """When each subscribe was answered."""

    def lasted_until(self, now: float) -> float:
        return now if self.ended_at is None else self.ended_at


@dataclass
class Device:
    """A client of a user's, over all its connections."""

    user: str
    name: str
    channels: tuple[str, ...]
    sessions: list[Session] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    """When a handshake failed."""
    turned_away: int = 0
    """Times it was told that the user holds all the connections they may."""
    gave_up: bool = False


class Interval(NamedTuple):
    """From one moment to another."""

    begin: float
    end: float

    def overlap(self, begin: float, end: float) -> float:
        """Seconds of it that lie between two moments."""
        return max(0.0, min(self.end, end) - max(self.begin, begin))


class PlacesHeld(NamedTuple):
    """How many places a user held, counted in Redis."""

    at: float
    user: str
    count: int


@dataclass
class Trace:
    """All of it. ``outages`` are when nothing could be confirmed, because a part was away on purpose."""

    publications: list[Publication] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    outages: list[Interval] = field(default_factory=list)
    places: list[PlacesHeld] = field(default_factory=list)
    ended_at: float = 0.0
