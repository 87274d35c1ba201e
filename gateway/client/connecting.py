"""The way to a gateway: one attempt to connect, and what its failure means."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHeader,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)
from websockets.uri import parse_uri

from gateway.client.errors import NOTHING, Told
from gateway.client.reconnecting import End

_OPEN_SECONDS: Final = 20.0
"""A handshake may wait 15 s for its turn (docs/deployment.md)."""

_CLOSE_SECONDS: Final = 3.0

LARGEST_MESSAGE_BYTES: Final = 16 * 2**20
"""A message may have a little more than the publishers' limit, which is 1 MiB unless they have raised it."""

_LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""A server that asks for more is asked again all the same."""


class _Connect(connect):
    """A gateway redirects nobody, and no other server is to be shown the token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def check_url(url: str) -> None:
    """See to it that it is a WebSocket's.

    Raises:
        ValueError: it is not. It is not told, since it may hold a token.
    """
    try:
        parse_uri(url)
    except InvalidURI:
        raise ValueError("the URL must be ws://host… or wss://host…") from None


@contextlib.asynccontextmanager
async def connected(
    url: str, token: str, tls: ssl.SSLContext | None
) -> AsyncIterator[ClientConnection]:
    """A connection, closed with the block. The token goes in a header, which no proxy logs."""
    # Only wss:// may have a context; without one, that of the system is used.
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    async with _Connect(
        url,
        additional_headers={"Authorization": f"Bearer {token}"},
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        # The session asks by itself, and waits longer where a large message is on its way.
        ping_interval=None,
        max_size=LARGEST_MESSAGE_BYTES,
        **options,
    ) as socket:
        yield socket


def end_of(error: Exception) -> End:
    """How a connection or an attempt has ended that raised ``error``."""
    match error:
        case ConnectionClosed():
            return _end_of_connection(error)
        case InvalidStatus():
            return _end_of_refusal(error)
        case ssl.SSLCertVerificationError():
            return End(reason="certificate_not_trusted", told=Told(str(error)), for_good=True)
        case InvalidProxy():
            # Its text has the URL, which may have a password.
            told = Told(f"the proxy of the environment is not valid: {error.msg}")
            return End(reason="proxy_invalid", told=told, for_good=True)
        case InvalidHeader():
            # Its text has the value, which may be the token.
            return End(reason="connection_failed", told=Told(f"invalid header {error.name}"))
        case _:
            return End(reason="connection_failed", told=Told(str(error) or type(error).__name__))


def _end_of_connection(error: ConnectionClosed) -> End:
    # What this side has found to be against the protocol (1002, 1007, 1009) counts, if it closed first.
    sent_first = error.sent is not None and not error.rcvd_then_sent
    frame = error.sent if sent_first else error.rcvd
    return End() if frame is None else End(frame.code, frame.reason)


def _end_of_refusal(error: InvalidStatus) -> End:
    response = error.response
    reason, told = "", NOTHING
    try:
        match orjson.loads(response.body or b"{}"):
            case {"error": {"code": str(reason), "message": str()} as body}:
                told = Told.of(body)
    except orjson.JSONDecodeError:
        pass  # a proxy's page
    return End(
        reason=reason,
        told=told if told.message else Told(response.reason_phrase),
        status=response.status_code,
        by_gateway=bool(reason),  # others have no code of ours in their answers
        retry_after=_seconds(response.headers.get("Retry-After", "")),
    )


def _seconds(retry_after: str) -> float:
    """RFC 9110 §10.2.3; a date, which needs the server's clock, and nonsense count as nothing said."""
    with contextlib.suppress(ValueError):
        return min(max(0.0, float(int(retry_after))), _LONGEST_RETRY_AFTER_SECONDS)
    return 0.0
