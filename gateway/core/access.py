"""Whom a verified token names, and what this user may hear. Denied unless a rule allows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from gateway.core.protocol import ErrorCode
from publisher.contract.channels import Channel, Namespace, Retention, namespace_of

_LATEST_TIME: Final = 2**53


class Use(Enum):
    """What a token is shown for."""

    CONNECTION = "connection"
    CHANNEL = "channel"


class TokenRejected(Exception):
    """A token that is not accepted. The message is for the log; the client is told the code."""

    def __init__(self, reason: str, code: ErrorCode = ErrorCode.TOKEN_INVALID) -> None:
        super().__init__(reason)
        self.code = code


class KeyUnknown(TokenRejected):
    """A token that names a key which its issuer may have published since its keys were looked at.

    Args:
        learn: looks at them again, or waits for those who do; returns after some seconds at most. Then the token may be
            judged once more.
    """

    def __init__(self, learn: Callable[[], Awaitable[None]]) -> None:
        super().__init__("its kid is in no set of keys yet", ErrorCode.TOKEN_KEY_UNKNOWN)
        self.learn = learn


_NONE: Final[frozenset[str]] = frozenset()
"""Shared: an empty set of its own has 216 bytes, and most tokens name no channel."""


class Identity(NamedTuple):
    """A client: its user, the channels its token names (exact, or ``namespace/*``), when the token ends (``None`` for
    never), its ``jti``, and when it was made; times are seconds since 1970.
    """

    user: str
    channels: frozenset[str] = frozenset()
    expires_at: float | None = None
    token_id: str | None = None
    issued_at: float | None = None


def identify(claims: Mapping[str, Any], user_claim: str, leeway: float = 0) -> Identity:
    """Read the claims of a verified token; it ends ``leeway`` seconds after its ``exp``.

    Raises:
        TokenRejected: no user, ``channels`` is not a list of strings, ``jti`` no name, or ``iat`` no time.
    """
    user = _user(claims, user_claim)
    expires_at = _time(claims, "exp")
    return Identity(
        user,
        _channels(claims) if "channels" in claims else _NONE,
        None if expires_at is None else expires_at + leeway,
        _token_id(claims),
        _time(claims, "iat"),
    )


def _channels(claims: Mapping[str, Any]) -> frozenset[str]:
    channels = claims["channels"]
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise TokenRejected("claim 'channels' must be a list of strings")
    return frozenset(channels) or _NONE


def _user(claims: Mapping[str, Any], user_claim: str) -> str:
    user = claims.get(user_claim)
    if not isinstance(user, str) or not user or not _is_text(user):
        raise TokenRejected(f"claim {user_claim!r} must be a string that is not empty")
    return user


def _token_id(claims: Mapping[str, Any]) -> str | None:
    """The ``jti``. Logins that count their tokens write a number; it is revoked by the same digits."""
    value = claims.get("jti")
    if type(value) is int:
        return str(value)
    if value is not None and not (isinstance(value, str) and _is_text(value)):
        raise TokenRejected("claim 'jti' must be a string")
    return value


def _time(claims: Mapping[str, Any], claim: str) -> float | None:
    value = claims.get(claim)
    if value is None:
        return None
    if type(value) not in {int, float} or not 0 <= value <= _LATEST_TIME:
        raise TokenRejected(not_a_time(claim))
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


class ChannelPass(NamedTuple):
    """What a channel token allows: its user may hear one channel until ``expires_at``. Times are seconds since 1970."""

    expires_at: float
    token_id: str | None = None
    issued_at: float | None = None


def read_pass(
    claims: Mapping[str, Any], user_claim: str, user: str, channel: str, leeway: float = 0
) -> ChannelPass:
    """Read the claims of a verified channel token; it ends ``leeway`` seconds after its ``exp``.

    Args:
        claims: of the token.
        user_claim: which one names the user.
        user: who shows it.
        channel: what it is shown for; the claim ``channel`` is no pattern.
        leeway: seconds.

    Raises:
        TokenRejected: it is another user's or another channel's, or has no end.
    """
    if _user(claims, user_claim) != user:
        raise TokenRejected("it is another user's")
    if claims.get("channel") != channel:
        raise TokenRejected("claim 'channel' is not the channel that it is shown for")
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise TokenRejected("claim 'exp' is missing")
    return ChannelPass(expires_at + leeway, _token_id(claims), _time(claims, "iat"))


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
