"""What a client's messages do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing, frames, protocol
from gateway.core.access import TokenRejected
from gateway.core.protocol import (
    Ack,
    BadRequest,
    ErrorCode,
    Heartbeat,
    Refresh,
    Request,
    Subscribe,
    Unsubscribe,
)
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.joining import Joining
from gateway.node.ports import Clock, Verifier
from gateway.node.recheck import Judging
from gateway.node.stats import Stats
from gateway.node.sweep import Heartbeats
from gateway.node.tasks import Tasks

log = logging.getLogger(__name__)

# In tokens of the connection's bucket. A broken client that repeats its mistake is cut off soon.
_MESSAGE_COST: Final = 1.0
_MISTAKE_COST: Final = 20.0
_PONG_COST: Final = 0.1  # asked for by us, up to once a second and channel

_NOT_ALLOWED: Final = "Not allowed to subscribe to this channel"


class Dispatcher:
    """Serves the requests of all connections of a node."""

    def __init__(
        self,
        hub: Hub,
        joining: Joining,
        judging: Judging,
        confirmation: Confirmation,
        heartbeats: Heartbeats,
        verifier: Verifier,
        tasks: Tasks,
        stats: Stats,
        clock: Clock,
        wall_clock_ms: Callable[[], int],
        max_message_bytes: int,
        max_subscriptions: int,
    ) -> None:
        self._hub = hub
        self._joining = joining
        self._judging = judging
        self._confirmation = confirmation
        self._heartbeats = heartbeats
        self._verifier = verifier
        self._tasks = tasks
        self._stats = stats
        self._clock = clock
        self._wall_clock_ms = wall_clock_ms
        self._max_message_bytes = max_message_bytes
        self._max_subscriptions = max_subscriptions

    # -- a connection's life ------------------------------------------------------------------

    def arrive(self, connection: Connection) -> None:
        """Take in a connection and greet it."""
        self._hub.connections[connection.id] = connection
        self._heartbeats.watch(connection)
        self._stats.connections_opened += 1
        self._send(connection, protocol.connected(connection.user))

    def depart(self, connection: Connection) -> None:
        """Forget a connection whose socket is gone."""
        connection.closed = True
        self._hub.connections.pop(connection.id, None)
        self._heartbeats.forget(connection)
        for subscription in list(connection.subscriptions.values()):
            self._joining.leave(subscription)
        self._confirmation.departed()

    def fail(self, connection: Connection) -> None:
        """End a connection whose message could not be served: nobody knows its state."""
        self._hub.close(connection, closing.INTERNAL_ERROR)

    # -- what it says -------------------------------------------------------------------------

    def text(self, connection: Connection, message: bytes) -> None:
        """Serve a text message; whatever is wrong with it becomes an ``error`` message."""
        self._stats.client_messages += 1
        try:
            self._check_size(message)
            request = protocol.parse(message)
            if self._afford(connection, _MESSAGE_COST):
                self._serve(connection, request)
        except BadRequest as error:
            self.refuse(connection, error)

    def _check_size(self, message: bytes) -> None:
        if len(message) > self._max_message_bytes:
            raise BadRequest(
                ErrorCode.MESSAGE_TOO_LARGE,
                "Message too large",
                detail=f"a message may have at most {self._max_message_bytes} bytes",
            )

    def binary(self, connection: Connection) -> None:
        """Answer a binary message, which the protocol has no use for."""
        self._stats.client_messages += 1
        self.refuse(
            connection,
            BadRequest(
                ErrorCode.BINARY_UNSUPPORTED,
                "Binary messages are not supported",
                detail="send JSON in text messages",
            ),
        )

    def ping(self, connection: Connection, payload: bytes) -> None:
        """Answer a client's own ping."""
        if self._afford(connection, _MESSAGE_COST):
            self._hub.send(connection, frames.pong(payload))

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Hear a pong; also from a connection that is being closed, which was asked before."""
        if connection.closed or self._afford(connection, _PONG_COST):
            self._heartbeats.heard(connection)
            self._confirmation.pong(connection, payload)

    def refuse(self, connection: Connection, error: BadRequest) -> None:
        """Tell a client what was wrong; the connection lives on, unless mistakes come in a flood."""
        self._stats.client_errors[error.code] += 1
        if self._afford(connection, _MISTAKE_COST):
            self._send(connection, error.render())

    def _afford(self, connection: Connection, cost: float) -> bool:
        if connection.closed:
            return False
        if connection.bucket.take(cost, self._clock()):
            return True
        log.warning("flood connection=%s user=%r", connection.id, connection.user)
        error = protocol.error(ErrorCode.FLOOD, "Too many messages", detail="send fewer messages")
        self._hub.close(connection, closing.FLOOD, error)
        return False

    def _serve(self, connection: Connection, request: Request) -> None:
        match request:
            case Heartbeat():
                self._send(connection, protocol.heartbeat(self._wall_clock_ms()))
            case Subscribe():
                self._subscribe(connection, request)
            case Unsubscribe(channel):
                if (subscription := connection.subscriptions.get(channel.name)) is not None:
                    self._joining.leave(subscription)
                self._send(connection, protocol.unsubscribed(channel.name))
            case Ack(channel, id_):
                self._confirmation.confirm(connection, channel.name, id_)
            case Refresh(token):
                self._refresh(connection, token)

    def _send(self, connection: Connection, message: bytes) -> None:
        self._hub.send(connection, frames.text(message))

    # -- subscriptions ------------------------------------------------------------------------

    def _subscribe(self, connection: Connection, request: Subscribe) -> None:
        name = request.channel.name
        existing = connection.subscriptions.get(name)
        # Without a log there is nothing to go back to, and leaving would lose what comes meanwhile.
        if existing is not None and (
            request.since is None or not self._joining.keeps_log(request.channel)
        ):
            if existing.answers:
                existing.answers += 1
            else:
                self._send(connection, protocol.subscribed(name))
            return
        owed = 0
        if existing is not None:
            owed = existing.answers
            self._joining.leave(existing)
        if len(connection.subscriptions) >= self._max_subscriptions:
            raise BadRequest(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                "Too many subscriptions",
                detail=f"a connection may hold {self._max_subscriptions}; unsubscribe from one first",
                channel=name,
            )
        subscription = Subscription(connection, request.channel)
        subscription.answers += owed
        connection.subscriptions[name] = subscription
        subscription.task = self._tasks.spawn(
            self._join(subscription, request.since), f"join {name}"
        )

    async def _join(self, subscription: Subscription, since: int | None) -> None:
        connection, name = subscription.connection, subscription.channel.name
        try:
            if await self._judging.settled(subscription):
                await self._joining.join(subscription, since)
                return
            refusal = BadRequest(ErrorCode.FORBIDDEN, _NOT_ALLOWED, channel=name)
        except Exception:
            log.exception("join_failed channel=%s user=%r", name, connection.user)
            refusal = BadRequest(
                ErrorCode.INTERNAL_ERROR, "Internal error", detail="subscribe again", channel=name
            )
        self._joining.leave(subscription)
        self.refuse(connection, refusal)

    def resume(self, connection: Connection) -> None:
        """Let the subscriptions that were left out of live delivery catch up and go live again."""
        for name, subscription in connection.subscriptions.items():
            # One whose task still runs waits between two pages, and goes on by itself.
            if subscription.apart and (subscription.task is None or subscription.task.done()):
                subscription.task = self._tasks.spawn(self._resume(subscription), f"resume {name}")

    async def _resume(self, subscription: Subscription) -> None:
        try:
            await self._joining.read_on(subscription)
        except Exception:
            log.exception("resume_failed connection=%s", subscription.connection.id)
            # A subscription that stays silent would look alive; one that is made anew is.
            self._hub.close(subscription.connection, closing.SLOW_CONSUMER)

    # -- tokens -------------------------------------------------------------------------------

    def _refresh(self, connection: Connection, token: str) -> None:
        try:
            identity = self._verifier.verify(token)
        except TokenRejected as rejected:
            log.info("refresh_rejected connection=%s reason=%s", connection.id, rejected)
            code = ErrorCode.TOKEN_EXPIRED if rejected.expired else ErrorCode.TOKEN_INVALID
            raise BadRequest(
                code, "Token rejected", detail="the old token stays in force"
            ) from None
        if identity.user != connection.user:
            raise BadRequest(
                ErrorCode.TOKEN_INVALID,
                "Token rejected",
                detail="a connection keeps its user; open another one",
            )
        connection.identity = identity
        self._heartbeats.expect_expiry(connection)
        self._judging.after_refresh(connection)
