"""Whom a verified token names, and what this user may hear. Denied unless a rule allows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from gateway.core.protocol import ErrorCode
from publisher.contract.channels import Channel, Namespace, Retention, namespace_of

_LATEST_EXPIRY: Final = 2**53


class TokenRejected(Exception):
    """A token that is not accepted. The message is for the log; the client is told the code."""

    def __init__(self, reason: str, code: ErrorCode = ErrorCode.TOKEN_INVALID) -> None:
        super().__init__(reason)
        self.code = code


_NONE: Final[frozenset[str]] = frozenset()
"""Shared: an empty set of its own has 216 bytes, and most tokens name no channel."""


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
    return Identity(
        user, frozenset(channels) or _NONE, None if expires_at is None else expires_at + leeway
    )


def _expiry(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= _LATEST_EXPIRY:
        raise TokenRejected(not_a_time("exp"))
    return float(value)


def not_a_time(claim: str) -> str:
    """What the log says of a claim that should be a time."""
    return f"claim {claim!r} must be a time in seconds since 1970"


def _is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can carry half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Decision(Enum):
    """What the rules say without asking Redis."""

    ALLOWED = auto()
    DENIED = auto()
    IF_GRANTED = auto()


def keeps_log(channel: str, namespaces: Mapping[str, Namespace]) -> bool:
    """Whether a channel's messages are logged; those of an unknown namespace are not."""
    return retention_of(channel, namespaces) is not None


def retention_of(channel: str, namespaces: Mapping[str, Namespace]) -> Retention | None:
    """What is kept of a channel's log; ``None`` for nothing, as in an unknown namespace."""
    rules = namespaces.get(namespace_of(channel))
    return rules.retention if rules else None


def decide(identity: Identity, channel: Channel, namespaces: Mapping[str, Namespace]) -> Decision:
    """What the namespace's owner rule says about a subscription.

    A token's ``channels`` claim replaces a grant and nothing else: it opens no other user's own channel.
    """
    rules = namespaces.get(channel.namespace)
    if rules is None:
        return Decision.DENIED
    let_in = rules.owner.lets_in(channel, identity.user)
    if let_in is None:
        named = {channel.name, f"{channel.namespace}/*"} & identity.channels
        return Decision.ALLOWED if named else Decision.IF_GRANTED
    return Decision.ALLOWED if let_in else Decision.DENIED
