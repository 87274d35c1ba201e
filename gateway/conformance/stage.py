"""What a check stands on: a user of its own, connections, a backend, and the cleaning up behind it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.conformance.backend import ApiError, Backend
from gateway.conformance.line import Line
from gateway.conformance.opening import Address, Asked, Opening, open_by_hand
from gateway.conformance.over_http import EventStream, Http
from gateway.conformance.tokens import Signer
from gateway.conformance.verdicts import Failed, Skipped, expect
from publisher import PublisherError

OFFER: Final = "permessage-deflate; client_max_window_bits"
TOO_MANY_FAILURES: Final = "too many bad tokens came from this address: try again in a minute"


@dataclass(slots=True)
class Visitors:
    """Who comes in a run.

    Attributes:
        name: begins the names of all users and channels.
        users: to be erased in the end.
        lines: all connections.
        sent_away: handshakes that were answered with 503.
    """

    name: str = field(default_factory=lambda: f"conformance-{secrets.token_hex(4)}")
    users: set[str] = field(default_factory=set)
    lines: list[Line] = field(default_factory=list)
    sent_away: list[Opening] = field(default_factory=list)


@dataclass(slots=True)
class Deployment:
    """What is looked at.

    Attributes:
        compresses: whether compression is switched on.
        origins: what ``GATEWAY_ALLOWED_ORIGINS`` lists; empty where pages of every origin may connect.
        patience: seconds that an answer may take: the line may be slow, and a sixth connection waits five.
    """

    address: Address
    signer: Signer
    backend: Backend
    compresses: bool = True
    origins: Sequence[str] = ()
    patience: float = 10.0
    visitors: Visitors = field(default_factory=Visitors)

    async def forget_users(self) -> None:
        """Erase what is kept of the run's users."""

        async def forget(user: str) -> None:
            with contextlib.suppress(PublisherError, ApiError, Skipped):
                await self.backend.forget(user)

        await asyncio.gather(*map(forget, self.visitors.users))


class Stage:
    """One check's own user, and what it opens and publishes."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self.deployment = deployment
        self.user = f"{deployment.visitors.name}-{name.lower()}"
        self.own = f"notifications/{self.user}"
        self.granted = f"run-results/{self.user}"
        self.signer = deployment.signer
        deployment.visitors.users.add(self.user)
        self._http: Http | None = None
        self._open: list[Line | EventStream] = []
        self._published: list[tuple[str, int]] = []
        self._grants: set[tuple[str, str]] = set()

    # -- connecting --------------------------------------------------------------------------------

    async def ask(
        self,
        token: str | None = None,
        *,
        path: str = "",
        query: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        version: str = "13",
    ) -> Opening:
        """Shake hands.

        Args:
            token: shown in the header ``Authorization``; an empty one is not shown. Without one: a good token of the user.
            path: instead of the deployment's.
            query: further parameters.
            headers: further lines of the head.
            version: of the protocol; an empty one makes it a plain request.
        """
        given = tuple(self.shown(token).items())
        address = self.deployment.address
        queries = "&".join(filter(None, (address.query, query)))
        target = (path or address.path) + (f"?{queries}" if queries else "")
        try:
            opening = await open_by_hand(address, Asked(target, (*given, *headers), version))
        except OSError as error:
            raise Failed(f"no connection: {error}") from None
        if opening.status == 503:
            self.deployment.visitors.sent_away.append(opening)
        if opening.status != 101:
            opening.writer.transport.abort()
        return opening

    async def open(self, token: str | None = None, *, deaf: bool = False, **asked: Any) -> Line:
        """Open a WebSocket; whether it is let in shows later."""
        opening = await self.ask(token, **asked)
        if token is not None and opening.error.get("code") == "too_many_failures":
            raise Skipped(TOO_MANY_FAILURES)
        expect(opening.status == 101, f"the handshake is answered with {opening.told()}")
        return self.take(opening, deaf=deaf)

    def take(self, opening: Opening, *, deaf: bool = False) -> Line:
        """The WebSocket of a handshake that was answered with 101; it ends with the check."""
        line = Line(opening, patience=self.deployment.patience, deaf=deaf)
        self._open.append(line)
        self.deployment.visitors.lines.append(line)
        return line

    async def connect(self, token: str | None = None, **asked: Any) -> Line:
        """Open a WebSocket, and wait until it is let in."""
        line = await self.open(token, **asked)
        message = await line.receive()
        expect(
            message["type"] == "connected",
            f"the first message is {message['type']} {message.get('code', '')}, not connected",
        )
        return line

    async def subscribe(self, line: Line, channel: str, **fields: Any) -> dict[str, Any]:
        """Subscribe; returns the answer, which must be ``subscribed``."""
        line.send({"type": "subscribe", "channel": channel, **fields})
        answer = await line.next("subscribed", "error", "unsubscribed")
        expect(
            answer["type"] == "subscribed" and answer.get("channel") == channel,
            f"a subscribe is answered with {answer['type']} {answer.get('code', '')}",
        )
        return answer

    async def listen(self, channel: str = "", **asked: Any) -> Line:
        """Connect and subscribe to the user's own channel, or another one."""
        line = await self.connect(**asked)
        await self.subscribe(line, channel or self.own)
        return line

    @property
    def http(self) -> Http:
        """Requests to where the WebSocket is."""
        if self._http is None:
            self._http = Http(self.deployment.address)
        return self._http

    def shown(self, token: str | None = None) -> dict[str, str]:
        """The header that shows a token; as with :meth:`ask`."""
        token = self.signer.token(self.user) if token is None else token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def keep(self, stream: EventStream) -> None:
        """See to it that a stream ends with the check."""
        self._open.append(stream)

    # -- the backend -------------------------------------------------------------------------------

    async def publish(self, data: Any, channel: str = "") -> int:
        """Publish to the user's own channel, or another one; returns the id."""
        name = channel or self.own
        id_ = await self.deployment.backend.publish(name, data)
        self._published.append((name, id_))
        return id_

    async def grant(self, channel: str, ttl: int = 300) -> None:
        """Let the user into a channel."""
        self._grants.add((channel, self.user))
        await self.deployment.backend.grant(channel, self.user, ttl)

    async def data(self, line: Line, id_: int) -> dict[str, Any]:
        """The next data message, which must be the one with this id."""
        message = await line.next("notifications", "run-results")
        expect(message.get("id") == id_, f"a message with id {message.get('id')} came, not {id_}")
        return message

    # -- afterwards --------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Close what is open, take back what was granted, and take out what was published."""
        backend = self.deployment.backend
        await asyncio.gather(*(line.drop() for line in self._open))
        if self._http is not None:
            await self._http.close()
        with contextlib.suppress(PublisherError, ApiError, Skipped):
            for channel, user in self._grants:
                await backend.revoke(channel, user)
            for channel, id_ in self._published:
                await backend.delete(channel, id_)


Check = Callable[[Stage], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A MUST of the protocol's page that binds the server.

    ``slow`` ones take minutes.
    """

    id: str
    text: str
    check: Check
    slow: bool = False


REQUIREMENTS: Final[dict[str, Requirement]] = {}
"""All of them, by id; the modules of checks fill it."""


def check(id_: str, text: str, *, slow: bool = False) -> Callable[[Check], Check]:
    """Say that a function checks a requirement."""

    def add(function: Check) -> Check:
        REQUIREMENTS[id_] = Requirement(id_, text, function, slow)
        return function

    return add
