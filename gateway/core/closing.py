"""Close codes, and what a client should do after each (RFC 6455 §7.4, IANA close code registry)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class CloseCode(IntEnum):
    """The codes this server closes with; those for broken frames are chosen by ``web/incoming_frames.py``."""

    NORMAL = 1000
    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    TIMEOUT = 3008


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a connection is closed. ``reason`` is seen by the client: at most 123 bytes (RFC 6455 §5.5)."""

    code: int
    reason: str


NORMAL: Final = Closing(CloseCode.NORMAL, "")
TOKEN_MISSING: Final = Closing(CloseCode.POLICY_VIOLATION, "token_missing")
TOKEN_INVALID: Final = Closing(CloseCode.POLICY_VIOLATION, "token_invalid")
TOKEN_EXPIRED: Final = Closing(CloseCode.POLICY_VIOLATION, "token_expired")
CONNECTION_LIMIT: Final = Closing(CloseCode.POLICY_VIOLATION, "connection_limit")
FLOOD: Final = Closing(CloseCode.POLICY_VIOLATION, "flood")
SLOW_CONSUMER: Final = Closing(CloseCode.TRY_AGAIN_LATER, "slow_consumer")
INTERNAL_ERROR: Final = Closing(CloseCode.INTERNAL_ERROR, "internal_error")
DRAINING: Final = Closing(CloseCode.GOING_AWAY, "draining")
PONG_TIMEOUT: Final = Closing(CloseCode.TIMEOUT, "pong_timeout")
