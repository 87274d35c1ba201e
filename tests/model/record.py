"""What happened in a run, as those who took part saw it. Times are seconds of the event loop's clock."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from publisher.contract.grants import EVERYBODY
from tests.model.access import Ways

NODE_REPLACED: Final = "node replaced"

OPEN: Final = "open"
"""What a connection's holder has a way to as long as the connection may be there."""


class Publication(NamedTuple):
    """A message that was published: from the first try to the return of the one that succeeded, if one has."""

    number: int
    channel: str
    asked: float
    done: float = math.inf
    id: int | None = None


class Arrival(NamedTuple):
    """A message that came to a client."""

    number: int
    at: float
    id: int | None


@dataclass
class Session:
    """A subscription, from ``subscribed`` to what ended it."""

    channel: str
    answered: float
    ended: float = math.inf
    arrivals: list[Arrival] = field(default_factory=list)


class Refusal(NamedTuple):
    """A subscribe that was refused, or a subscription that the node ended: ``since`` it was asked for, or answered."""

    channel: str
    since: float
    at: float
    told: str


@dataclass(eq=False)
class Visit:
    """A connection of a client, which is also the holder of what its token says.

    ``node`` is the number of the node. ``ended`` is infinite while it is open, and ``left`` says that the client has ended it.
    """

    number: int
    user: str
    node: int
    opened: float
    asked: float = 0.0
    """When the handshake began."""
    ended: float = math.inf
    left: bool = False
    why: str = ""
    shown: Token | None = None
    """At the handshake."""
    token: Token | None = None
    refreshing: bool = False
    """Another token was shown, and nobody knows which one is in force."""
    passes: dict[str, Token] = field(default_factory=dict)
    """By channel: the tokens that were shown for it, and are in force."""
    sessions: list[Session] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """What should not have come."""

    @property
    def holders(self) -> tuple[object, ...]:
        """Whose ways let it hear."""
        return self, self.user, EVERYBODY, self.showing

    @property
    def showing(self) -> tuple[str, int]:
        """Who holds what its tokens for channels open."""
        return "shown by", self.number

    @property
    def name(self) -> str:
        return f"{self.user!r} (connection {self.number} at node {self.node})"

    def session(self, channel: str) -> Session | None:
        """The subscription that is open now."""
        return next(
            (each for each in self.sessions if each.channel == channel and each.ended == math.inf),
            None,
        )


class Token(NamedTuple):
    """What a user shows. ``ends`` and ``issued`` are seconds since 1970; ``id`` and ``issued`` may be missing."""

    text: str
    user: str
    channels: tuple[str, ...]
    ends: float
    id: str | None
    issued: float | None


class Revocation(NamedTuple):
    """A call that has ended one token, by its ``id``, or those of a user that were issued ``before``."""

    asked: float
    done: float
    id: str | None = None
    user: str | None = None
    before: float = 0.0

    def is_about(self, token: Token) -> bool:
        """Whether the token is revoked."""
        if self.user is None:
            return self.id == token.id
        return self.user == token.user and (token.issued is None or token.issued < self.before)


class Disconnection(NamedTuple):
    """A call that has ended a user's connections; of which one, if it was about one, nobody knows here."""

    user: str
    asked: float
    done: float
    one: bool


class Fault(NamedTuple):
    """Something that was broken on purpose; ``node`` is ``None`` for what concerns all."""

    name: str
    node: int | None
    begin: float
    end: float


class Late:
    """By how much the event loop was late, and when: all who take part share it, so what is to happen in a second is too."""

    def __init__(self) -> None:
        self.most = 0.0
        # From when on it should have gone on, and when it did; in order.
        self._times: list[tuple[float, float]] = []

    def note(self, at: float, seconds: float) -> None:
        """It was late by so much when it went on then."""
        self.most = max(self.most, seconds)
        self._times.append((at - seconds, at))

    def before(self, at: float, seconds: float) -> float:
        """The moment so many seconds before another one; those by which the event loop was late in between do not count."""
        index = bisect_left(self._times, (at,))
        while index and (on_time := at - self._times[index - 1][1]) < seconds:
            index -= 1
            seconds -= max(0.0, on_time)
            at = self._times[index][0]
        return at - seconds


@dataclass
class Record:
    """All of it."""

    ways: Ways = field(default_factory=Ways)
    publications: dict[int, Publication] = field(default_factory=dict)
    visits: list[Visit] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    made: int = 0
    issued: list[Token] = field(default_factory=list)
    """All tokens, also those for one channel."""
    tokens: list[Token] = field(default_factory=list)
    """Those of connections."""
    revocations: list[Revocation] = field(default_factory=list)
    disconnections: list[Disconnection] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()
    """The namespaces that keep a log."""
    late: Late = field(default_factory=Late)
    errors: list[str] = field(default_factory=list)
    """Lines of the nodes' log at ERROR."""
    over: float = math.inf

    def keeps_log(self, channel: str) -> bool:
        """Whether what is published there has to arrive."""
        return channel.partition("/")[0] in self.logged

    def count(self, step: str) -> None:
        """Note that a step was taken."""
        self.steps[step] = self.steps.get(step, 0) + 1
