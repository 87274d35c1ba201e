"""What a request on the clients' port may begin, once its user is let in; and how it is told why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core import frames
from gateway.core.closing import Closing
from gateway.core.handshake import Agreement, Refusal
from gateway.core.http import Head
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.ports import Socket
from gateway.node.requests import Requests
from gateway.web.new_connection import NewConnection
from gateway.web.reading import Turns
from gateway.web.socket import ClientSocket, Leaving, Session

Make = Callable[[Socket], Connection]
"""Makes the connection of a socket, and counts it."""


class Opening(Protocol):
    """A WebSocket, an event stream or polls, asked for."""

    @property
    def head(self) -> Head:
        """The request."""

    @property
    def cookie_counts(self) -> bool:
        """Whether a cookie that came along may hold the token: it is known which page has asked."""

    def denial(self, user: str) -> Refusal | None:
        """Why the user may begin no more of this kind for now, whatever places it has; ``None`` where it may."""

    def reject(self, new: NewConnection, why: Closing) -> None:
        """Tell a client why it is not let in, in the way in which it can hear it."""

    def begin(self, new: NewConnection, make: Make, leaving: Leaving) -> None:
        """Answer the request, and let the connection be served."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves connections that have begun. ``read_limit``: bytes of a message, above which nothing is read of it."""

    lifetimes: Lifetimes
    requests: Requests
    turns: Turns
    high_water: int
    read_limit: int


@dataclass(frozen=True, slots=True)
class WebSocketOpening:
    """Implements ``Opening`` for a WebSocket."""

    head: Head
    agreement: Agreement
    encoding: frames.Encoding
    serving: Serving

    @property
    def cookie_counts(self) -> bool:
        """A browser sends its cookies along whatever page connects, so only the origin tells who it is that asks."""
        return "origin" in self.head.fields

    def denial(self, _user: str) -> Refusal | None:
        """Only the places of a user bound these."""
        return None

    def reject(self, new: NewConnection, why: Closing) -> None:
        """Upgrade all the same: only then can a browser see the ``error`` and the close code."""
        error = b"" if why.error is None else frames.text(why.error)
        new.reject(self.agreement.answer + error + frames.close(why))

    def begin(self, new: NewConnection, make: Make, leaving: Leaving) -> None:
        """Upgrade the connection, and let a session serve it."""
        serving = self.serving
        socket = ClientSocket(self.encoding, serving.high_water, serving.turns, new.plain_socket)
        connection = make(socket)
        early = new.hand_over(socket)
        session = Session(serving.lifetimes, serving.requests, connection, socket, leaving)
        session.begin(serving.read_limit, self.agreement.answer, early)
