"""The JSON protocol spoken with clients; ``docs/protocol.md`` is its specification.

Parsing turns a text frame into a request or raises :class:`BadRequest`; rendering turns what the
server has to say into JSON bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

import orjson

from gateway.core.error_entries import entry
from publisher.contract.channels import Channel, parse_channel
from publisher.contract.message import MAX_ID, Message
from publisher.errors import InvalidChannel

RESERVED: Final = frozenset(
    [
        "ack",
        "connected",
        "error",
        "granted",
        "heartbeat",
        "joined",
        "left",
        "ping",
        "pong",
        "presence",
        "refresh",
        "subscribe",
        "subscribed",
        "token_expiring",
        "unsubscribe",
        "unsubscribed",
    ]
)
"""Types of this protocol's messages, and of those to come. The type of a data message is its namespace, so
no namespace may have one of these names."""

LONGEST_CHANNEL_TOKEN: Final = 4_096
"""Characters. A node keeps such a token until it has judged it, and one names a user and a channel only."""


class ErrorCode(StrEnum):
    """The ``code`` of an ``error`` message."""

    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_TYPE = "unknown_type"
    BINARY_UNSUPPORTED = "binary_unsupported"
    MESSAGE_TOO_LARGE = "message_too_large"
    INVALID_CHANNEL = "invalid_channel"
    FORBIDDEN = "forbidden"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    CHANNEL_FULL = "channel_full"
    NOT_SUBSCRIBED = "not_subscribed"
    NO_PRESENCE = "no_presence"
    FLOOD = "flood"
    TOKEN_MISSING = "token_missing"  # noqa: S105 - a code, not a password
    TOKEN_INVALID = "token_invalid"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"  # noqa: S105
    TOKEN_KEY_UNKNOWN = "token_key_unknown"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    CONNECTION_LIMIT = "connection_limit"
    DISCONNECTED = "disconnected"
    REPLACED = "replaced"
    MESSAGES_LOST = "messages_lost"
    INTERNAL_ERROR = "internal_error"


class EndReason(StrEnum):
    """The ``reason`` of an ``unsubscribed`` that the client did not ask for."""

    EXPIRED = "expired"
    """The grant's time is over."""

    REVOKED = "revoked"
    """The grant was taken back, or the new token does not name the channel."""

    GRANT_LOST = "grant_lost"
    """Redis has lost its data, and the grant with it."""

    INTERNAL_ERROR = "internal_error"
    """Redis answers with an error that does not pass, so the channel cannot be served."""


# The wording existing clients know; `code` and `detail` are ours to add.
INVALID_MESSAGE_FORMAT: Final = "Invalid message format"

_ECHOED: Final = 1024
"""Characters of a channel that an error repeats: more than any name has, so what is cut is never another's name."""


class BadRequest(Exception):
    """A client's message that cannot be served; it becomes an ``error`` message."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        detail: str | None = None,
        channel: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
        self.channel = channel

    def render(self) -> bytes:
        """The ``error`` message for it."""
        return error(self.code, self.message, detail=self.detail, channel=self.channel)


class Refused(BadRequest):
    """A well-formed request that is not granted. It is no mistake, so it costs no more than a message."""


def refusal(channel: str, reason: EndReason) -> Refused:
    """What a client is told whose subscription ends before it has begun."""
    if reason is EndReason.INTERNAL_ERROR:
        return Refused(
            ErrorCode.INTERNAL_ERROR, "Internal error", detail="subscribe later", channel=channel
        )
    return Refused(ErrorCode.FORBIDDEN, "Not allowed to subscribe to this channel", channel=channel)


def too_many_subscriptions(channel: str, detail: str) -> Refused:
    """What a client is told that asks for more than it may have."""
    return Refused(
        ErrorCode.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions", detail=detail, channel=channel
    )


def not_subscribed(channel: str) -> Refused:
    """What a client is told that asks who is in a channel, and is not in it."""
    detail = "subscribe to the channel first"
    return Refused(ErrorCode.NOT_SUBSCRIBED, "Not subscribed", detail=detail, channel=channel)


def no_presence(channel: str) -> Refused:
    """What a client is told that asks who is in a channel where nobody notes that."""
    detail = "the channel's namespace has no presence"
    return Refused(ErrorCode.NO_PRESENCE, "No presence", detail=detail, channel=channel)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``since``: replay what came after this id, whatever was delivered before. ``token``: what lets the user hear the
    channel, where neither a rule nor a grant does.
    """

    channel: Channel
    since: int | None = None
    token: str | None = None

    def after(self, earlier: Subscribe | None) -> Subscribe:
        """What it asks for where an ``earlier`` one waits for its answer: what it leaves out is as in that one."""
        if earlier is None:
            return self
        since = earlier.since if self.since is None else self.since
        token = earlier.token if self.token is None else self.token
        return replace(self, since=since, token=token)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Leave a channel."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The client's own sign of life, answered with the server's time."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has processed everything in ``channel`` up to ``id``."""

    channel: Channel
    id: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """A new token for the same user, before the old one expires."""

    token: str


@dataclass(frozen=True, slots=True)
class WhoIsThere:
    """Who is in a channel."""

    channel: Channel


Request: TypeAlias = Subscribe | Unsubscribe | Heartbeat | Ack | Refresh | WhoIsThere


def parse(text: str | bytes) -> Request:
    """Read one client message.

    Raises:
        BadRequest: not JSON, not an object, or what is wrong with its fields. It names the channel that the message names.
    """
    try:
        return read(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise _invalid("the message is not JSON") from None


def read(message: object) -> Request:
    """The same of a member of an array, which is JSON."""
    if not isinstance(message, dict):
        raise _invalid("the message is not a JSON object")
    try:
        return _request(message)
    except BadRequest as error:
        name = message.get("channel")
        error.channel = name[:_ECHOED] if isinstance(name, str) else None
        raise


def _request(message: dict[str, Any]) -> Request:
    match message.get("type"):
        case "subscribe":
            since = _id(message, "since", optional=True)
            return Subscribe(_channel(message), since, _channel_token(message))
        case "unsubscribe":
            return Unsubscribe(_channel(message))
        case "heartbeat":
            return Heartbeat()
        case "presence":
            return WhoIsThere(_channel(message))
        case "ack":
            id_ = _id(message, "id")
            assert id_ is not None
            return Ack(_channel(message), id_)
        case "refresh":
            token = message.get("token")
            if not isinstance(token, str):
                raise _invalid("'token' must be a string")
            return Refresh(token)
        case str():
            raise BadRequest(
                ErrorCode.UNKNOWN_TYPE,
                "Unknown message type",
                detail="'type' must be one of subscribe, unsubscribe, heartbeat, ack, refresh, presence",
            )
        case _:
            raise _invalid("'type' must be a string")


def _invalid(detail: str) -> BadRequest:
    return BadRequest(ErrorCode.INVALID_MESSAGE, INVALID_MESSAGE_FORMAT, detail=detail)


def _channel(message: dict[str, Any]) -> Channel:
    name = message.get("channel")
    if not isinstance(name, str):
        raise _invalid("'channel' must be a string")
    try:
        return parse_channel(name)
    except InvalidChannel:
        raise BadRequest(
            ErrorCode.INVALID_CHANNEL,
            "Invalid channel name",
            detail=f"a channel is {InvalidChannel.form}",
        ) from None


def _channel_token(message: dict[str, Any]) -> str | None:
    token = message.get("token")
    if token is None:
        return None
    if not isinstance(token, str):
        raise _invalid("'token' must be a string")
    if len(token) > LONGEST_CHANNEL_TOKEN or not token.isascii():
        raise BadRequest(
            ErrorCode.TOKEN_INVALID,
            "Channel token rejected",
            detail=f"a channel token has at most {LONGEST_CHANNEL_TOKEN} characters, all of ASCII",
        )
    return token


def _id(message: dict[str, Any], field: str, *, optional: bool = False) -> int | None:
    value = message.get(field)
    if value is None and optional:
        return None
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise _invalid(f"{field!r} must be a message id: an integer from 0 to 2^53 - 1")
    return value


def connected(user: str, **names: str) -> bytes:
    """The first message on every connection. ``names``: by which an event stream (``stream``) or one that polls (``poll``) is reached."""
    message = "Connection established" if names else "WebSocket connection established"
    return orjson.dumps({"type": "connected", "message": message, "userId": user, **names})


def subscribed(channel: str, recovered: bool | None = None, position: int | None = None) -> bytes:
    """``None`` leaves a key out: ``recovered`` as clients without ``since`` have always seen it; ``position``, the id
    behind which the subscription begins, where there is no log, or it has begun before.
    """
    more = {"recovered": recovered, "position": position}
    given = {key: value for key, value in more.items() if value is not None}
    return orjson.dumps({"type": "subscribed", "channel": channel, **given})


def unsubscribed(channel: str, reason: EndReason | None = None) -> bytes:
    """``reason`` is there when the client did not ask for it."""
    message: dict[str, str] = {"type": "unsubscribed", "channel": channel}
    if reason is not None:
        message["reason"] = reason
    return orjson.dumps(message)


def granted(channel: str) -> bytes:
    """A channel that the connection was refused a short while ago is open to its user now."""
    return orjson.dumps({"type": "granted", "channel": channel})


def presence(channel: str, users: list[str], count: int) -> bytes:
    """Who is in a channel: the first ``users``, and how many there are."""
    return orjson.dumps({"type": "presence", "channel": channel, "users": users, "count": count})


CHANGES: Final = ("joined", "left")
"""How users become members of a channel and cease to be."""


def change(kind: str, channel: str, users: list[str]) -> bytes:
    """Users have come into a channel or left it, by one of :data:`CHANGES`."""
    return orjson.dumps({"type": kind, "channel": channel, "users": users})


def token_expiring(expires_at_ms: int) -> bytes:
    """The connection's token ends soon, in milliseconds since 1970; the connection ends with it."""
    return orjson.dumps({"type": "token_expiring", "expiresAt": expires_at_ms})


def heartbeat(timestamp_ms: int, since: str = "") -> bytes:
    """The answer to a heartbeat: the server's time in milliseconds since 1970. ``since``: where a client that polls stands."""
    message: dict[str, Any] = {"type": "heartbeat", "timestamp": timestamp_ms}
    return orjson.dumps(message | {"since": since} if since else message)


def error(
    code: ErrorCode, message: str, *, detail: str | None = None, channel: str | None = None
) -> bytes:
    """``message`` is for people, ``code`` for programs, ``help`` names its entry in the documentation, ``detail`` says what to
    mend.
    """
    body = {"type": "error", "message": message, "code": code, "help": entry(code)}
    if detail is not None:
        body["detail"] = detail
    if channel is not None:
        body["channel"] = channel
    return orjson.dumps(body)


def messages_lost(channel: str) -> bytes:
    """The ``error`` for a subscription that goes on without what retention has taken away."""
    return error(
        ErrorCode.MESSAGES_LOST,
        "Messages were lost",
        detail="they are no longer retained; reload from the source",
        channel=channel,
    )


def data_prefix(channel: Channel) -> bytes:
    """What all data messages of a channel begin with; made once per channel."""
    head = orjson.dumps({"type": channel.namespace, "channel": channel.name})
    return head[:-1] + b',"data":'


def data(prefix: bytes, message: Message) -> bytes:
    """A data message. The publisher's JSON goes in as it is, never parsed on its way."""
    if message.logged:
        return b'%b%b,"timestamp":%d,"id":%d}' % (
            prefix,
            message.body,
            message.id // 1000,
            message.id,
        )
    return b'%b%b,"timestamp":%d}' % (prefix, message.body, message.id // 1000)


def batch(messages: list[bytes]) -> bytes:
    """Several messages in one frame, for clients that asked for it (``?batch=true``)."""
    return b"[" + b",".join(messages) + b"]"
