"""What a node needs from the outside: the interfaces that ``backplane`` and ``web`` implement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol, TypeAlias

from gateway.core.access import ChannelPass, Identity
from gateway.core.closing import Closing
from gateway.core.encodings import Encoding
from publisher.contract.message import LogPage

Clock = Callable[[], float]
"""Seconds of a monotonic clock."""


class Clocks(NamedTuple):
    """A monotonic clock, and one that shows the seconds since 1970."""

    monotonic: Clock
    wall: Clock


class Socket(Protocol):
    """A client's WebSocket, event stream or polls, for writing."""

    encoding: Encoding

    @property
    def there(self) -> bool:
        """Whether the client is there as far as anybody can tell without a pong; ``False`` where its pong tells."""

    @property
    def waiting(self) -> int:
        """Bytes that were written and still wait in the node."""

    @property
    def untaken(self) -> int:
        """Bytes that were written and that the client has not taken yet."""

    @property
    def taken(self) -> int:
        """Rises as the client takes what was written; only differences count."""

    @property
    def arrived(self) -> int:
        """Rises as bytes come from the client, also those not read yet; stays where the system does not tell."""

    @property
    def quiet(self) -> float:
        """Seconds since bytes came from the client, also ones not read yet; ``inf`` where the system does not tell."""

    @property
    def congested(self) -> bool:
        """Whether more waits for the client than may wait before the next page of a log."""

    @property
    def unheard(self) -> bool:
        """Whether nothing is read of the client, because too much waits for it."""

    def write(self, data: bytes) -> bool:
        """Hand over whole frames; never waits. Nothing happens on a socket that is closing.

        ``False`` when more than the high-water mark waits for the client.
        """

    async def drained(self) -> None:
        """Wait until it is not congested, or the client is gone."""

    def stop_reading(self) -> None:
        """Hear nothing more of what the client says, and leave soon: it is closing, and its answer will not be seen."""

    def close(self, reason: Closing) -> None:
        """Send a close frame after all that was written, and end the connection soon after."""


class Feed(Protocol):
    """What Redis tells of channels: what is published live, or who is granted them."""

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        """Listen; done once Redis has confirmed, which may take as long as a connection is lost."""

    def unsubscribe(self, channel: str) -> None:
        """Stop listening, without waiting."""


class Log(Protocol):
    """The retained messages of channels."""

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        """At most ``limit`` messages after ``since``, or after what ``user`` has confirmed.

        What was confirmed before this call counts, also where it is not written to Redis yet.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """

    async def raise_last(self, channel: str, position: int) -> None:
        """Let the ids of new messages be above ``position``, which Redis has lost.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """


class Grants(Protocol):
    """Who was let into which channel, and until when."""

    async def remaining(self, channel: str, user: str) -> float:
        """Seconds for which ``user``, or everybody, still holds a grant; 0 for none, ``inf`` for ever.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """

    def server_of(self, channel: str) -> str:
        """The server that has the channel's grants. Questions to one that does not answer must hold up no others."""

    async def lost(self) -> bool:
        """Whether Redis has lost its data, and all grants with them, since this was asked last.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """


@dataclass(frozen=True, slots=True)
class Span:
    """What was done with a message that is part of a trace, from ``began`` to ``ended`` (nanoseconds since 1970).

    ``above`` is the traceparent of the span that it is below. ``events`` have a name and a moment.
    """

    operation: str
    namespace: str
    above: str
    began: int
    ended: int
    attributes: Mapping[str, str | int]
    events: tuple[tuple[str, int], ...] = ()


class Spans(Protocol):
    """Where spans go."""

    def record(self, span: Span) -> str:
        """Take one that has ended; returns its traceparent. Never waits."""


class Positions(Protocol):
    """What users have confirmed."""

    def advance(self, channel: str, user: str, id: int) -> None:
        """Note that ``user`` has everything up to ``id``; written soon, only ever forward."""

    def hurry(self) -> None:
        """Write what is noted now rather than soon."""


class PresenceLog(Protocol):
    """Who is in channels, on all nodes."""

    async def users(self, channel: str) -> list[str]:
        """The users in a channel, each once, in the order of their ids.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """


@dataclass(frozen=True, slots=True)
class Claim:
    """A connection that asks for a place, and what is known of its token: ``issued_at`` in seconds since 1970."""

    user: str
    connection: str
    issued_at: float | None = None
    token_id: str | None = None


class Denied(Enum):
    """Why a connection was given no place."""

    FULL = auto()
    """The user holds all they may."""

    REVOKED = auto()
    """The token is revoked."""


Entry: TypeAlias = int | Denied
"""When a connection was given its place, in microseconds of the clock of Redis; or why it was given none."""


class Places(Protocol):
    """The places that users' connections hold, counted over all nodes."""

    async def acquire(self, claim: Claim, wanted: Callable[[], Awaitable[bool]]) -> Entry:
        """Take a place; ``FULL`` also when it is not ``wanted`` any more. Nobody gives way to a claim that is not.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """

    def give_back(self, user: str, connection: str) -> None:
        """Give it back, soon; one that was not taken is no error."""


class HeldPlaces(Protocol):
    """The places of this node's connections. ``rounds``: how often renewing all of them has begun."""

    rounds: int

    def restore(self) -> None:
        """Renew all of them soon: some may be another connection's by now."""

    async def ask(self, user: str, connections: Sequence[str]) -> None:
        """Renew those of one user's connections, and tell what has ended any of them.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """

    def give_back(self, user: str, connection: str) -> None:
        """Give a place back that is another connection's, and must not be taken again."""


Answering = Callable[[int, bytes], None]
"""Answers a request with a status, as of HTTP, and a body. Called once, now or later."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a ``user`` who has no WebSocket says to a ``stream``: ``messages`` of the protocol, that it polls, or that it ``leaves``.

    ``wait``: seconds for which it waits for messages then. ``since`` is where it says that it stands.
    """

    stream: str
    user: str
    messages: bytes = b""
    wait: float | None = None
    since: str = ""
    leaves: bool = False


class OtherNodes(Protocol):
    """The nodes on which other streams are."""

    def forget(self, answer: Answering) -> None:
        """Whoever waits for this answer to what was asked has gone."""

    async def ask(self, request: StreamRequest, answer: Answering) -> bool:
        """Hand a request to the node of its stream; ``False``, and no answer, where the user has no such stream there.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """


class Polls(Protocol):
    """The polls of one client."""

    def poll(self, since: str, wait: float, answer: Answering) -> bool:
        """Answer with what there is, or comes in so many seconds. An older one that waits is told that it is replaced.

        Where ``since`` is the end of the last answer, it proves that this has arrived; where it is the beginning, the answer comes
        again. With any other it begins anew: ``False``, and no answer.
        """

    def forget(self, answer: Answering) -> None:
        """Whoever waits for this answer has gone; what it would have got waits for the next."""


class RevokedTokens(Protocol):
    """What Redis knows of revoked tokens.

    ``at_once``: of so many it is asked at a time, if many are to be asked about.
    """

    at_once: int

    async def revoked(self, digests: Sequence[str]) -> Mapping[str, bool]:
        """Whether each of these tokens is revoked. What a server knows that is away, or that refuses to tell, is left out.

        Raises:
            publisher.errors.Unavailable: one did not answer; trying again may help.
        """

    async def ended(self, users: Sequence[str]) -> Mapping[str, bool]:
        """The same of users: whether tokens of theirs are revoked, or connections were ended a short while ago."""

    def ask(self, digest: str) -> asyncio.Future[Any]:
        """Whether the token with this digest is revoked: true or false, or the error that came in place of an answer.

        The question leaves with what else is sent in this turn.
        """

    async def look_up(self, user: str, digest: str | None) -> tuple[float | None, bool]:
        """Before which time (seconds since 1970) the tokens of ``user`` are revoked, and whether that one is.

        Raises:
            publisher.errors.Unavailable: Redis did not answer, or answered with an error.
        """


class Verifier(Protocol):
    """Judges tokens."""

    def verify(self, token: str) -> Identity:
        """Whom a token speaks for.

        Raises:
            gateway.core.access.KeyUnknown: its key may have been published since its issuer was asked last.
            gateway.core.access.TokenRejected: it is malformed, wrongly signed, for another audience, expired or
                not valid yet.
        """

    def verify_pass(self, token: str, user: str, channel: str) -> ChannelPass:
        """What a channel token allows ``user``, who shows it for ``channel``.

        Raises:
            gateway.core.access.KeyUnknown: as above.
            gateway.core.access.TokenRejected: as above, or it is another user's or another channel's.
        """
