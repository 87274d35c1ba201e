"""The WebSocket handshake, and a connection's life from there on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import hdrs, web

from gateway.core import closing, protocol
from gateway.core.access import Identity, TokenRejected
from gateway.core.closing import Closing
from gateway.core.frames import Encoding
from gateway.core.protocol import ErrorCode
from gateway.core.timing import TokenBucket
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock, Verifier
from gateway.node.requests import Dispatcher
from gateway.node.stats import Stats
from gateway.web import handshake
from gateway.web.auth import SUBPROTOCOL, find_token
from gateway.web.session import Session
from gateway.web.socket import ClientSocket
from gateway.web.upgrade import Upgrade
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

# aiohttp ends a connection over a message that is too large, and frees it of the rest. Up to this
# multiple of the limit it is read whole instead, and answered with an error.
_READ_LIMIT_FACTOR: Final = 16
_RETRY_AFTER_SECONDS: Final = 2


class Places(Protocol):
    """The users' places (``backplane/places.py``)."""

    async def acquire(self, user: str, connection: str) -> bool:
        """Take a place; ``False`` when the user holds all they may."""

    def give_back(self, user: str, connection: str) -> None:
        """Give it back, soon; one that was not taken is no error."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint holds clients to."""

    max_connections: int
    max_connections_per_user: int
    max_message_bytes: int
    high_water_bytes: int
    messages_per_second: float
    message_burst: float
    allowed_origins: frozenset[str]


class Endpoint:
    """Serves ``/`` and ``/ws``.

    Args:
        ready: whether new connections are welcome: Redis is there, and the node is not leaving.
        new_id: makes a connection's id, unique in the cluster.
    """

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        places: Places,
        verifier: Verifier,
        stats: Stats,
        clock: Clock,
        limits: Limits,
        ready: Callable[[], bool],
        new_id: Callable[[], str],
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._places = places
        self._verifier = verifier
        self._stats = stats
        self._clock = clock
        self._limits = limits
        self._ready = ready
        self._new_id = new_id
        self._present = 0
        # It would write the headers of a handshake, and a token among them, into its log.
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Judge a handshake, and serve the connection until it ends."""
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return handshake.refusal(
                426, "upgrade_required", "connect with WebSocket", {hdrs.UPGRADE: "websocket"}
            )
        if request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) != handshake.VERSION:
            headers = {
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": handshake.VERSION,
            }
            return handshake.refusal(
                426, "version_required", f"speak version {handshake.VERSION}", headers
            )
        return self._turn_away(request) or await self._authenticate(request)

    def _turn_away(self, request: web.Request) -> web.Response | None:
        """What is refused before the upgrade, so that a load balancer can try another node."""
        limits = self._limits
        origin = request.headers.get(hdrs.ORIGIN)
        if limits.allowed_origins and origin is not None and origin not in limits.allowed_origins:
            self._refused("origin", origin=origin)
            return handshake.refusal(403, "origin_not_allowed", "this origin may not connect")
        if not self._ready():
            return self._unavailable("not_ready")
        if self._present >= limits.max_connections:
            return self._unavailable("node_full")
        return None

    def _unavailable(self, reason: str) -> web.Response:
        self._refused(reason)
        return handshake.refusal(
            503,
            reason,
            "try again, on this node or another",
            {hdrs.RETRY_AFTER: str(_RETRY_AFTER_SECONDS)},
        )

    def _refused(self, reason: str, **details: object) -> None:
        self._stats.connections_refused[reason] += 1
        told = "".join(f" {name}={value!r}" for name, value in details.items())
        log.info("connection_refused reason=%s%s", reason, told)

    # -- after the upgrade --------------------------------------------------------------------

    async def _authenticate(self, request: web.Request) -> web.StreamResponse:
        token = find_token(request)
        if token is None:
            return await self._reject(
                request,
                closing.TOKEN_MISSING,
                ErrorCode.TOKEN_MISSING,
                "Authentication required",
                "send a token: ?token=<JWT>, an Authorization: Bearer header or a subprotocol",
            )
        try:
            identity = self._verifier.verify(token)
        except TokenRejected as rejected:
            if rejected.expired:
                return await self._reject(
                    request,
                    closing.TOKEN_EXPIRED,
                    ErrorCode.TOKEN_EXPIRED,
                    "Token expired",
                    "connect again with a new token",
                )
            return await self._reject(
                request,
                closing.TOKEN_INVALID,
                ErrorCode.TOKEN_INVALID,
                "Authentication failed",
                "get a new token",
                cause=str(rejected),
            )
        # Only who is known takes up room; handshakes under way count, so that no crowd slips past.
        self._present += 1
        connection_id = self._new_id()
        answer: web.StreamResponse | None = None
        try:
            answer = await self._admit(request, identity, connection_id)
        finally:
            if not (isinstance(answer, Upgrade) and answer.handed_over):
                self._make_room(identity.user, connection_id)
        return answer

    async def _admit(
        self, request: web.Request, identity: Identity, connection_id: str
    ) -> web.StreamResponse:
        try:
            if not await self._places.acquire(identity.user, connection_id):
                return await self._reject(
                    request,
                    closing.CONNECTION_LIMIT,
                    ErrorCode.CONNECTION_LIMIT,
                    "Too many connections",
                    f"a user may hold {self._limits.max_connections_per_user}; close one first",
                    user=identity.user,
                )
        except Unavailable:
            return self._unavailable("redis_unavailable")
        if not self._ready():  # the drain has begun meanwhile
            return self._unavailable("not_ready")
        return await self._begin(request, identity, connection_id)

    def _make_room(self, user: str, connection_id: str) -> None:
        self._present -= 1
        self._places.give_back(user, connection_id)

    async def _reject(
        self,
        request: web.Request,
        reason: Closing,
        code: ErrorCode,
        message: str,
        detail: str,
        **details: object,
    ) -> web.StreamResponse:
        self._refused(reason.reason, **details)
        return await handshake.reject(request, reason, protocol.error(code, message, detail=detail))

    async def _begin(
        self, request: web.Request, identity: Identity, connection_id: str
    ) -> web.StreamResponse:
        """Upgrade the connection, and take it from aiohttp."""
        limits = self._limits
        response = Upgrade(protocols=(SUBPROTOCOL,))
        try:
            await response.prepare(request)
        except ConnectionError:
            return web.Response()  # the client has left, and nobody will see it
        batch = request.query.get("batch") == "true"
        socket = ClientSocket(Encoding(int(response.compress), batch), limits.high_water_bytes)
        early = response.hand_over(request, socket)
        if early is None:
            return response
        bucket = TokenBucket(limits.messages_per_second, limits.message_burst, self._clock())
        connection = Connection(connection_id, identity, socket, bucket)
        log.debug("connection_opened connection=%s user=%r", connection_id, identity.user)
        session = Session(self._dispatcher, connection, socket, self._left)
        session.begin(limits.max_message_bytes * _READ_LIMIT_FACTOR, early)
        return response

    def _left(self, connection: Connection, code: int | None) -> None:
        """A client has closed, or is gone."""
        if not connection.closed:
            self._stats.connections_closed[handshake.close_label(code)] += 1
        try:
            self._dispatcher.depart(connection)
        finally:
            self._make_room(connection.user, connection.id)
        log.debug(
            "connection_closed connection=%s user=%r code=%s", connection.id, connection.user, code
        )
