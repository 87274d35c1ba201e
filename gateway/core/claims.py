"""Who a verified token says the client is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_LATEST_EXPIRY: Final = 2**53


class TokenRejected(Exception):
    """A token that opens nothing; the message is for the log, the client is told less."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


@dataclass(frozen=True, slots=True)
class Identity:
    """A client: its user, the channels its token names (exact, or ``namespace/*``), and when the token
    ends (seconds since 1970, ``None`` for never).
    """

    user: str
    channels: frozenset[str] = frozenset()
    expires_at: float | None = None


def identify(claims: Mapping[str, Any], user_claim: str, leeway: float = 0) -> Identity:
    """Read the claims of a verified token; it ends ``leeway`` seconds after its ``exp``.

    Raises:
        TokenRejected: no user, or ``channels`` is not a list of strings.
    """
    user = claims.get(user_claim)
    if not isinstance(user, str) or not user or not _is_text(user):
        raise TokenRejected(f"claim {user_claim!r} must be a string that is not empty")
    channels = claims.get("channels", [])
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise TokenRejected("claim 'channels' must be a list of strings")
    expires_at = _expiry(claims.get("exp"))
    return Identity(user, frozenset(channels), None if expires_at is None else expires_at + leeway)


def _expiry(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= _LATEST_EXPIRY:
        raise TokenRejected("claim 'exp' must be a time in seconds since 1970")
    return float(value)


def _is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can carry half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
