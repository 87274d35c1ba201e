"""What clients say to a node: what it costs them, what it does, and what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.core import budget, closing, frames, protocol
from gateway.core.log_limit import LogLimit
from gateway.core.protocol import (
    Ack,
    BadRequest,
    ErrorCode,
    Heartbeat,
    Refresh,
    Refused,
    Request,
    Subscribe,
    Unsubscribe,
    WhoIsThere,
)
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Hub
from gateway.node.ports import Clocks
from gateway.node.subscriptions import Subscriptions
from gateway.node.tokens import Tokens
from publisher.contract.channels import Channel

log = logging.getLogger(__name__)


class Requests:
    """Carries out what clients ask for, and answers what is wrong with it.

    Args:
        who_is_there: answers a connection who is in a channel, or raises ``Refused``.
        max_message_bytes: size of a client's message.
    """

    def __init__(
        self,
        hub: Hub,
        subscriptions: Subscriptions,
        tokens: Tokens,
        heartbeats: Heartbeats,
        confirmation: Confirmation,
        who_is_there: Callable[[Connection, Channel], None],
        clocks: Clocks,
        max_message_bytes: int,
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._tokens = tokens
        self._heartbeats = heartbeats
        self._confirmation = confirmation
        self._who_is_there = who_is_there
        self._clock, self._wall_clock = clocks
        self._max_message_bytes = max_message_bytes
        self._log_limit = LogLimit(self._clock())

    # -- what a client says -------------------------------------------------------------------

    def arrived(self, connection: Connection, cost: float) -> bool:
        """Charge for bytes that came; ``False`` when nothing more is to be heard."""
        return self._afford(connection, cost, "bytes and frames")

    def text(self, connection: Connection, message: bytes, paid: float = 0.0) -> None:
        """Serve a text message; whatever is wrong with it becomes an ``error`` message.

        Args:
            connection: whose message it is.
            message: its bytes.
            paid: what they have cost already.
        """
        self._take(connection, budget.message(paid), lambda: self._parse(message))

    def member(self, connection: Connection, message: object) -> None:
        """Serve one of the messages of an array, as if it had come alone. The array is no larger than a message may be."""
        self._take(connection, budget.MESSAGE, lambda: protocol.read(message))

    def request(self, connection: Connection, request: Request) -> None:
        """Serve what a client has asked for in the address of its stream: as if it had said so."""
        self._take(connection, budget.MESSAGE, lambda: request)

    def binary(self, connection: Connection, _message: bytes) -> None:
        """Answer a binary message: the protocol has no use for any."""
        self._hub.stats.client_messages += 1
        self._refuse(
            connection,
            BadRequest(
                ErrorCode.BINARY_UNSUPPORTED,
                "Binary messages are not supported",
                detail="send JSON in text messages",
            ),
        )

    def ping(self, connection: Connection, payload: bytes) -> None:
        """Answer a client's own ping."""
        if self._afford(connection, budget.PING, "pings"):
            self._hub.send(connection, frames.pong(payload))

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Take a pong: a sign of life, and perhaps the answer to a question.

        A connection that is being closed was asked before; its answer still counts.
        """
        if self._afford(connection, budget.PONG, "pongs", asked_for=True):
            self._heartbeats.heard(connection)
            self._confirmation.pong(connection, payload)

    # -- what becomes of it -------------------------------------------------------------------

    def _take(self, connection: Connection, cost: float, read: Callable[[], Request]) -> None:
        self._hub.stats.client_messages += 1
        if not self._afford(connection, cost, "messages") or connection.closed:
            return
        try:
            self._serve(connection, read())
        except BadRequest as error:
            self._refuse(connection, error)

    def _parse(self, message: bytes) -> Request:
        if len(message) > self._max_message_bytes:
            raise BadRequest(
                ErrorCode.MESSAGE_TOO_LARGE,
                "Message too large",
                detail=f"a message may have at most {self._max_message_bytes} bytes; it was not looked into",
            )
        return protocol.parse(message)

    def _afford(
        self, connection: Connection, cost: float, what: str, *, asked_for: bool = False
    ) -> bool:
        """Charge for ``what`` a client sends, also while its connection is being closed.

        ``asked_for``: the node wants it, so it ends no connection for what others of the user have sent.
        """
        now = self._clock()
        if connection.budget.take(cost, now):
            shared = connection.budget.shared
            if shared is None or shared.take(cost, now) or asked_for:
                return True
            what = f"user: {what}"
        if not connection.closed:
            self._hub.stats.floods[what] += 1
            self._log_flood(connection, what)
            self._hub.close(connection, closing.FLOOD)
        connection.socket.stop_reading()
        return False

    def _log_flood(self, connection: Connection, what: str) -> None:
        left_out = self._log_limit.admit(what, self._clock())
        if left_out is not None:
            log.warning(
                "flood connection=%s user=%r address=%s exhausted_by=%r left_out=%s",
                connection.id,
                connection.user,
                connection.address or "unknown",
                what,
                left_out or None,
            )

    def _serve(self, connection: Connection, request: Request) -> None:
        """Do what a client asks for.

        Raises:
            BadRequest: it cannot be done; nothing was.
        """
        match request:
            case Heartbeat():
                answer = protocol.heartbeat(int(self._wall_clock() * 1000))
                self._hub.tell(connection, answer)
            case Subscribe():
                self._subscriptions.subscribe(connection, request)
            case Unsubscribe(channel):
                self._subscriptions.unsubscribe(connection, channel)
            case WhoIsThere(channel):
                self._who_is_there(connection, channel)
            case Ack(channel, id_):
                self._confirmation.confirm(connection, channel.name, id_)
            case Refresh(token) if self._afford(connection, budget.REFRESH, "refreshes"):
                self._tokens.refresh(connection, token)

    def _refuse(self, connection: Connection, error: BadRequest) -> None:
        """Tell a client what was wrong; the connection lives on, unless mistakes come in a flood."""
        self._hub.stats.client_errors[error.code] += 1
        if isinstance(error, Refused) or self._afford(connection, budget.MISTAKE, "mistakes"):
            self._hub.tell(connection, error.render())
