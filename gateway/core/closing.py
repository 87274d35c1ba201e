"""Why this server closes connections, and what a client is told then. What a client should do after each:
``docs/protocol.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.core import protocol
from gateway.core.protocol import ErrorCode


class CloseCode(IntEnum):
    """The codes this server closes with; those for broken frames are chosen by ``web/incoming_frames.py``.

    RFC 6455 §7.4, IANA close code registry.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    TIMEOUT = 3008


@dataclass(frozen=True, slots=True)
class Closing:
    """All that a client is told when its connection is closed.

    ``code`` and ``reason`` are in the close frame; it has room for a reason of 123 bytes (RFC 6455 §5.5).
    ``error`` is the message that precedes the frame, where there is one.
    """

    code: int
    reason: str
    error: bytes | None = None


def disconnected(reason: str) -> Closing:
    """The backend has ended the user's connections, for a ``reason`` that it gives, or without one."""
    return _violation(
        ErrorCode.DISCONNECTED,
        reason or "Disconnected",
        detail="ended by the backend; you may connect again",
    )


def _violation(code: ErrorCode, message: str, *, detail: str) -> Closing:
    """The client has done what it may not; the reason of the close frame is the code of the error."""
    error = protocol.error(code, message, detail=detail)
    return Closing(CloseCode.POLICY_VIOLATION, code.value, error)


NORMAL: Final = Closing(CloseCode.NORMAL, "")
TOKEN_MISSING: Final = _violation(
    ErrorCode.TOKEN_MISSING,
    "Authentication required",
    detail="send a token: ?token=<JWT>, an Authorization: Bearer header or, for a WebSocket, a subprotocol",
)
TOKEN_INVALID: Final = _violation(
    ErrorCode.TOKEN_INVALID, "Authentication failed", detail="get a new token"
)
TOKEN_EXPIRED: Final = _violation(
    ErrorCode.TOKEN_EXPIRED, "Token expired", detail="connect again with a new token"
)
TOKEN_NOT_YET_VALID: Final = _violation(
    ErrorCode.TOKEN_NOT_YET_VALID,
    "Token not valid yet",
    detail="connect again later; the clock of who made the token is ahead, or its nbf is",
)
TOKEN_KEY_UNKNOWN: Final = _violation(
    ErrorCode.TOKEN_KEY_UNKNOWN,
    "The token's key is not known",
    detail="connect again later; its issuer has published the key a moment ago, or not at all",
)
TOKEN_REVOKED: Final = _violation(
    ErrorCode.TOKEN_REVOKED, "Token revoked", detail="connect again with a new token"
)
CONNECTION_LIMIT: Final = _violation(
    ErrorCode.CONNECTION_LIMIT,
    "Too many connections",
    detail="close one of the user's other connections first",
)
REPLACED: Final = _violation(
    ErrorCode.REPLACED,
    "Replaced by a newer connection",
    detail="the user has opened another one; do not come back by yourself",
)
FLOOD: Final = _violation(ErrorCode.FLOOD, "Too many messages", detail="send fewer messages")
SLOW_CONSUMER: Final = Closing(CloseCode.TRY_AGAIN_LATER, "slow_consumer")
INTERNAL_ERROR: Final = Closing(CloseCode.INTERNAL_ERROR, "internal_error")
DRAINING: Final = Closing(CloseCode.GOING_AWAY, "draining")
PONG_TIMEOUT: Final = Closing(CloseCode.TIMEOUT, "pong_timeout")

REJECTED_TOKEN: Final = {
    ErrorCode(each.reason): each
    for each in (
        TOKEN_INVALID,
        TOKEN_EXPIRED,
        TOKEN_NOT_YET_VALID,
        TOKEN_KEY_UNKNOWN,
        TOKEN_REVOKED,
    )
}
"""What is told of a token that was shown and is not accepted, by its code."""

_NO_CLOSE_FRAME: Final = 1006
_COUNTED_CODES: Final = {1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011}


def label(code: int | None) -> str:
    """A client's close code as a metric's label: it may send any, and each would be a time series.

    ``None`` stands for none: 1006, as a browser tells it (RFC 6455 §7.1.5).
    """
    code = _NO_CLOSE_FRAME if code is None else code
    return str(code) if code in _COUNTED_CODES else "other"
