"""The WebSocket handshake: who is let in, what the others are told, and how a connection begins and ends."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from gateway.core import closing
from gateway.core.access import Identity, TokenRejected
from gateway.core.closing import Closing
from gateway.core.frames import Encoding
from gateway.core.origins import AllowedOrigins
from gateway.core.rate_limit import TokenBucket
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.ports import Clock, Verifier
from gateway.node.requests import Requests
from gateway.node.stats import Stats
from gateway.web.admission import Admission
from gateway.web.auth import SUBPROTOCOL, find_token
from gateway.web.socket import ClientSocket, Session
from gateway.web.upgrade import Upgrade
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

_VERSION: Final = "13"  # RFC 6455 §4.1

# A message that is too large ends the connection, since the rest of it would have to be read all the same. Up to
# this multiple of the limit it is read whole instead, and answered with an error.
_READ_LIMIT_FACTOR: Final = 16
_RETRY_AFTER_SECONDS: Final = 2
_LINGER_SECONDS: Final = 1.0
"""How long a client that was told why it is not let in may take to close."""

_NO_CLOSE_FRAME: Final = 1006  # never on the wire (RFC 6455 §7.4.1)
_COUNTED_CODES: Final = {1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011}


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients are held to."""

    max_message_bytes: int
    high_water_bytes: int
    messages_per_second: float
    message_burst: float
    allowed_origins: AllowedOrigins


class Handshakes:
    """Serves ``/`` and ``/ws``."""

    def __init__(
        self,
        admission: Admission,
        verifier: Verifier,
        lifetimes: Lifetimes,
        requests: Requests,
        stats: Stats,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._admission = admission
        self._verifier = verifier
        self._lifetimes = lifetimes
        self._requests = requests
        self._stats = stats
        self._limits = limits
        self._clock = clock
        # Unique within a node, whose own id is unique in the cluster.
        self._ids = itertools.count(1)
        # It would write the headers of a handshake, and a token among them, into its log.
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Let a client in and hand its connection to a session, or tell it why not."""
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return _refusal(
                426, "upgrade_required", "connect with WebSocket", {hdrs.UPGRADE: "websocket"}
            )
        if request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) != _VERSION:
            headers = {
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": _VERSION,
            }
            return _refusal(426, "version_required", f"speak version {_VERSION}", headers)
        return self._turn_away(request) or await self._authenticate(request)

    def _turn_away(self, request: web.Request) -> web.Response | None:
        """What is refused before the upgrade, so that a load balancer can try another node."""
        limits = self._limits
        origin = request.headers.get(hdrs.ORIGIN)
        if not limits.allowed_origins.allow(origin):
            self._refused("origin", origin=origin)
            return _refusal(403, "origin_not_allowed", "this origin may not connect")
        reason = self._admission.refusal()
        return None if reason is None else self._unavailable(reason)

    def _unavailable(self, reason: str) -> web.Response:
        self._refused(reason)
        return _refusal(
            503,
            reason,
            "try again, on this node or another",
            {hdrs.RETRY_AFTER: str(_RETRY_AFTER_SECONDS)},
        )

    def _refused(self, reason: str, **details: object) -> None:
        self._stats.connections_refused[reason] += 1
        template = "connection_refused reason=%s" + "".join(f" {name}=%r" for name in details)
        log.info(template, reason, *details.values())

    # -- after the upgrade --------------------------------------------------------------------

    async def _authenticate(self, request: web.Request) -> web.StreamResponse:
        token = find_token(request)
        if token is None:
            return await self._reject(request, closing.TOKEN_MISSING)
        try:
            identity = self._verifier.verify(token)
        except TokenRejected as rejected:
            why = closing.REJECTED_TOKEN[rejected.code]
            return await self._reject(request, why, cause=str(rejected))
        # Only who is known takes up room.
        connection_id = f"{next(self._ids):x}"
        answer: web.StreamResponse | None = None
        try:
            answer = await self._admit(request, identity, connection_id)
        finally:
            if not (isinstance(answer, Upgrade) and answer.handed_over):
                self._admission.leave(identity.user, connection_id)
        return answer

    async def _admit(
        self, request: web.Request, identity: Identity, connection_id: str
    ) -> web.StreamResponse:
        try:
            if not await self._admission.enter(identity.user, connection_id):
                return await self._reject(request, closing.CONNECTION_LIMIT, user=identity.user)
        except Unavailable:
            return self._unavailable("redis_unavailable")
        if not self._admission.open:  # the drain has begun meanwhile
            return self._unavailable("not_ready")
        return await self._begin(request, identity, connection_id)

    async def _reject(
        self, request: web.Request, why: Closing, **details: object
    ) -> web.StreamResponse:
        """Upgrade all the same: only then can a browser see the ``error`` and the close code."""
        self._refused(why.reason, **details)
        response = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), compress=False, timeout=_LINGER_SECONDS
        )
        try:
            await response.prepare(request)
            if why.error is not None:
                await response.send_str(why.error.decode())
            await response.close(code=why.code, message=why.reason.encode(), drain=False)
        except ConnectionError:
            return _nobody()
        return response

    async def _begin(
        self, request: web.Request, identity: Identity, connection_id: str
    ) -> web.StreamResponse:
        """Upgrade the connection, and take it from aiohttp."""
        limits = self._limits
        response = Upgrade(protocols=(SUBPROTOCOL,))
        try:
            await response.prepare(request)
        except ConnectionError:
            return _nobody()
        batch = request.query.get("batch") == "true"
        socket = ClientSocket(Encoding(int(response.compress), batch), limits.high_water_bytes)
        early = response.hand_over(request, socket)
        if early is None:
            return response
        bucket = TokenBucket(limits.messages_per_second, limits.message_burst, self._clock())
        connection = Connection(connection_id, identity, socket, bucket)
        log.debug("connection_opened connection=%s user=%r", connection_id, identity.user)
        session = Session(self._lifetimes, self._requests, connection, socket, self._left)
        session.begin(limits.max_message_bytes * _READ_LIMIT_FACTOR, early)
        return response

    def _left(self, connection: Connection, code: int | None) -> None:
        """A client has closed, or is gone."""
        if not connection.closed:
            self._stats.connections_closed[close_label(code)] += 1
        try:
            self._lifetimes.end(connection)
        finally:
            self._admission.leave(connection.user, connection.id)
        log.debug(
            "connection_closed connection=%s user=%r code=%s", connection.id, connection.user, code
        )


def _nobody() -> web.StreamResponse:
    """The answer to a client that has left during the handshake: aiohttp wants one."""
    return web.Response()


def close_label(code: int | None) -> str:
    """A client's close code as a metric's label: it may send any, and each would be a time series.

    ``None`` stands for none: 1006, as a browser tells it (RFC 6455 §7.1.5).
    """
    code = _NO_CLOSE_FRAME if code is None else code
    return str(code) if code in _COUNTED_CODES else "other"


async def negotiate_compression(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Tell the client that no message rests on another, so that it need not keep a window for us
    (RFC 7692 §7.1.1.1: a server may say so unasked).
    """
    extensions = response.headers.get(hdrs.SEC_WEBSOCKET_EXTENSIONS)
    if extensions and "server_no_context_takeover" not in extensions:
        response.headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = (
            f"{extensions}; server_no_context_takeover"
        )


def _refusal(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """An answer in HTTP, before any upgrade; the connection is not kept for another request."""
    response = web.json_response(
        {"error": {"code": code, "message": message}}, status=status, headers=headers
    )
    response.force_close()
    return response
