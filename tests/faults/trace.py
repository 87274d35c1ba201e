"""What happened in a scenario, as those who took part saw it. Times are ``time.monotonic`` seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import NamedTuple

from publisher import Retention


def moment_of(seconds: float) -> float:
    """A time since 1970 as one of the trace's."""
    return seconds - time.time() + time.monotonic()


class Publication(NamedTuple):
    """A numbered message whose publish has succeeded, be it after some tries."""

    channel: str
    number: int
    id: int
    asked_at: float
    published_at: float
    tries: int = 1
    duplicate: bool = False
    """The library says that an earlier call had published it."""
    unsure: bool = False
    """An earlier call had said that it may have published it."""


class Outcome(StrEnum):
    """What the library said of a publish that is not repeated."""

    SENT = "sent"
    NOT_SENT = "not sent"
    MAYBE_SENT = "maybe sent"


class Attempt(NamedTuple):
    """A publish that was tried once. ``id`` is there when it was sent."""

    channel: str
    number: int
    asked_at: float
    outcome: Outcome
    id: int = 0


class AccessChange(NamedTuple):
    """A grant (``allowed``) or its revocation: from the first call to the return of the one that succeeded."""

    channel: str
    user: str
    allowed: bool
    asked_at: float
    done_at: float


class Token(NamedTuple):
    """What a client shows: its ``jti``, and when it was issued, in seconds since 1970."""

    id: str
    issued_at: float


class Ending(NamedTuple):
    """Connections or tokens of a user that a backend has ended: from the first call to the return of the one that succeeded.

    ``token`` is the ``jti`` that was revoked, ``before`` the moment before which all tokens were, in seconds since 1970;
    with neither of them connections were ended, or ``only_one`` of them.
    """

    user: str
    asked_at: float
    done_at: float
    token: str | None = None
    before: float | None = None
    only_one: bool = False

    def revokes(self, token: Token | None) -> bool:
        """Whether a token of this user's is revoked by it."""
        if token is None:
            return False
        return token.id == self.token or (self.before is not None and token.issued_at < self.before)


class Rejection(NamedTuple):
    """A client was told that its token is revoked, and not let in."""

    at: float
    token: Token


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


class Interval(NamedTuple):
    """From one moment to another."""

    begin: float
    end: float

    def overlap(self, begin: float, end: float) -> float:
        """Seconds of it that lie between two moments."""
        return max(0.0, min(self.end, end) - max(self.begin, begin))


@dataclass
class Session:
    """One connection of a device, from ``connected`` to its end (``ended_at`` is ``None`` until then).

    ``asked_at`` is when it was asked for, and ``ended_as`` the code that its client was told when a backend ended it.
    """

    opened_at: float
    ended_at: float | None = None
    close_code: int | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    reports: list[LossReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    answered: dict[str, float] = field(default_factory=dict)
    """When each subscribe was answered."""
    asked_at: float = 0.0
    token: Token | None = None
    ended_as: str = ""

    def lasted_until(self, now: float) -> float:
        return now if self.ended_at is None else self.ended_at

    def heard_throughout(self, channel: str, interval: Interval) -> bool:
        """Whether it was subscribed to a channel all the while."""
        since, until = self.answered.get(channel, inf), self.lasted_until(inf)
        return since < interval.begin and until > interval.end


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
    rejections: list[Rejection] = field(default_factory=list)
    gave_up: bool = False
    reloads: int = 0
    """Times it gave up and was loaded anew."""

    def heard_throughout(self, channel: str, interval: Interval) -> bool:
        """Whether one of its connections was subscribed to a channel all the while."""
        return any(each.heard_throughout(channel, interval) for each in self.sessions)


@dataclass
class Occurrence:
    """A fault while it was there: ``ended_at`` is when it was taken back.

    ``nodes`` are the numbers of those whose Redis, way to it or process it touched.
    """

    name: str
    nodes: tuple[int, ...]
    begun_at: float
    ended_at: float = float("inf")
    recovered_at: float = float("inf")
    """When all nodes were ready again."""


class Readiness(NamedTuple):
    """What a node's ``/readyz`` said; no answer is no sample."""

    node: int
    asked_at: float
    answered_at: float
    ready: bool


class LogLine(NamedTuple):
    """A line that a process has written; ``level`` is empty for what is no log line."""

    at: float
    source: str
    level: str
    text: str


class KeyLeft(NamedTuple):
    """A key in Redis after everybody has left; ``ttl`` in ms, negative when it does not expire."""

    name: str
    kind: str
    ttl: int
    members: tuple[str, ...] = ()
    """Of places and node leases."""


@dataclass
class Plan:
    """A numbered message that is to be published ``at`` a moment; ``id`` is the schedule's.

    ``cancel_asked_at`` is when it was to be taken back, ``cancel_done_at`` when the call had returned, and ``cancelled`` what it said.
    """

    channel: str
    number: int
    at: float
    asked_at: float
    done_at: float
    id: str = ""
    cancel_asked_at: float = 0.0
    cancel_done_at: float = 0.0
    cancelled: bool = False


class Removal(NamedTuple):
    """A message that is no longer to be delivered: from the first call that takes it out (or the end of its time) until it surely is.

    ``how``: ``deleted``, ``collapsed`` or ``expired``. ``told``: the call has said that it did so.
    """

    channel: str
    number: int
    how: str
    asked_at: float
    done_at: float
    told: bool = True


class Confirmation(NamedTuple):
    """Who has a message, as a backend was told when its call had returned."""

    channel: str
    number: int
    id: int
    users: tuple[str, ...]
    at: float


class Present(NamedTuple):
    """Who was in a channel, as a backend was told. ``settled``: after everything was over."""

    channel: str
    users: frozenset[str]
    asked_at: float
    answered_at: float
    settled: bool = False


class Told(NamedTuple):
    """An event in the stream of those for backends; ``at`` is when it was written."""

    id: str
    at: float
    kind: str
    user: str
    node: str
    connection: str = ""
    first: bool = False
    last: bool = False


class PlacesHeld(NamedTuple):
    """How many places a user held, counted in Redis."""

    at: float
    user: str
    count: int


@dataclass
class Trace:
    """All of it.

    ``outages`` are when nothing could be confirmed, because a part was away on purpose; ``losses`` are when
    Redis accepted writes that it lost on purpose. ``short`` are the channels whose log keeps few messages,
    and which. ``logged`` are the ids in the logs at the end, by channel and number. ``events`` is the whole stream of events, and
    ``given`` are the ids of those that a backend was given.
    """

    publications: list[Publication] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    access: list[AccessChange] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    confirmations: list[Confirmation] = field(default_factory=list)
    present: list[Present] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    outages: list[Interval] = field(default_factory=list)
    losses: list[Interval] = field(default_factory=list)
    occurrences: list[Occurrence] = field(default_factory=list)
    readiness: list[Readiness] = field(default_factory=list)
    places: list[PlacesHeld] = field(default_factory=list)
    short: dict[str, Retention] = field(default_factory=dict)
    logged: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    log_lines: list[LogLine] = field(default_factory=list)
    keys_left: list[KeyLeft] = field(default_factory=list)
    dead_nodes: set[str] = field(default_factory=set)
    """Ids of nodes that were killed, and could give nothing back."""
    killed: dict[str, float] = field(default_factory=dict)
    """Ids of nodes, and when they were killed."""
    ended_at: float = 0.0
    unnoticed_seconds: float = 15.0
    """A client's end may be noticed so much later: by a ping, and a pong that does not come."""

    def breaks(self) -> list[Session]:
        """The sessions that ended before the run did, and that no backend had ended."""
        return [
            session
            for device in self.devices
            for session in device.sessions
            if not session.ended_as and session.lasted_until(self.ended_at) < self.ended_at
        ]

    def lost_on_purpose(self, publication: Publication) -> bool:
        """Whether Redis had it only while what it wrote was to be lost."""
        return self.in_question(publication) and not self.kept(publication)

    def in_question(self, publication: Publication) -> bool:
        """Whether a try to publish it may have been lost on purpose, be it that a later one was kept."""
        return self.losing(publication.asked_at, publication.published_at)

    def kept(self, publication: Publication) -> bool:
        """Whether it was in the log at the end."""
        numbers = self.logged.get(publication.channel, {})
        return publication.id in numbers.get(publication.number, ())

    def undone_on_purpose(self, change: AccessChange | Ending) -> bool:
        """Whether it was done only while what Redis wrote was to be lost."""
        return self.losing(change.asked_at, change.done_at)

    def disturbed(self, begin: float, end: float) -> bool:
        """Whether nothing could be confirmed, or Redis was losing writes, at some moment between two."""
        return any(
            each.begin <= end and begin <= each.end for each in (*self.outages, *self.losses)
        )

    def losing(self, asked_at: float, done_at: float) -> bool:
        """Whether something that was asked for and done then may have been lost on purpose."""
        return any(done_at >= each.begin and asked_at <= each.end for each in self.losses)
