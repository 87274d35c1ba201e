"""What goes into the calls and what comes out of them, and the checks of arguments.

The checks are made before anything is sent, and raise ``InvalidInput``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final
from uuid import UUID

import orjson

from publisher.contract.channels import NOTIFICATIONS, RUN_RESULTS, Retention
from publisher.contract.grants import EVERYBODY
from publisher.contract.json_text import written
from publisher.contract.message import MAX_ID
from publisher.contract.node_report import NodeReport
from publisher.errors import InvalidData, MessageTooLarge


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for ``publish_many``.

    ``retention`` replaces the namespace's for this publish, ``min_replicas`` the publisher's. A newer message with the
    same ``collapse_key`` takes this one out of the channel. After ``ttl`` seconds nobody is sent it any more. It belongs to
    the trace that ``traceparent`` names (W3C Trace Context).
    """

    channel: str
    data: Any
    idempotency_key: str | None = None
    retention: Retention | None = None
    min_replicas: int | None = None
    collapse_key: str | None = None
    ttl: int | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publish.

    ``id`` is the message's id, in microseconds of the Redis clock; 0 when the namespace keeps no log.
    ``duplicate``: an earlier call has published under this idempotency key, and ``id`` is its message's.
    ``confirmed``: the users who have confirmed it, where ``wait_confirmed`` was asked for; ``None`` where not.
    """

    id: int
    channel: str
    duplicate: bool = False
    confirmed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that is to be published ``at`` a moment, in seconds since 1970. It can be cancelled by its ``id`` until then."""

    id: str
    channel: str
    at: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user who has confirmed all that was sent to them of a channel, up to the message with the id ``up_to``."""

    user: str
    up_to: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a channel's history; ``timestamp`` in milliseconds since 1970."""

    id: int
    channel: str
    data: Any
    timestamp: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A live connection of a user: which node holds it, and until when its lease runs (ms since 1970)."""

    node: str
    id: str
    lease_expires_at: int


@dataclass(frozen=True, slots=True)
class Node:
    """A living gateway; ``report`` is ``None`` of one that has just begun, and of one before version 0.2."""

    name: str
    report: NodeReport | None


MAX_TTL_SECONDS: Final = 1_000_000_000
"""About 31 years. Redis refuses an expiry that overflows only after the grant has been written."""

MAX_TIMEOUT_SECONDS: Final = 86_400

MAX_REPLICAS: Final = 1_000
MAX_REPLICA_SECONDS: Final = 3_600


@dataclass(frozen=True, slots=True)
class Encoded:
    """Data that :func:`dump_json` has written already, for several messages."""

    body: bytes


def dump_json(data: Any, max_bytes: int, default: Callable[[Any], Any] | None = None) -> bytes:
    """``data`` as JSON of at most ``max_bytes``.

    ``default`` is asked for what JSON cannot hold, :func:`plain` if there is none.

    Raises:
        InvalidData: something in it cannot be written: a NaN, an integer over 64 bits, a key of a dict that
            is no string, an object that ``default`` does not take.
        MessageTooLarge: it is longer.
    """
    if type(data) is Encoded:
        return data.body
    convert = default or plain
    try:
        body = written(data, convert)
    except orjson.JSONEncodeError as error:
        # What ``default`` says of an object is clearer than what orjson says of it.
        cause = error.__cause__
        raise InvalidData(f"data cannot be written as JSON: {cause or error}") from cause
    if len(body) > max_bytes:
        raise MessageTooLarge(len(body), max_bytes)
    # orjson writes null for what is not finite; without a null there is nothing to look for.
    if b"null" in body and not _finite(data, convert):
        raise InvalidData("data cannot be written as JSON: NaN and infinities are no JSON numbers")
    return body


def plain(value: Any) -> Any:
    """What is published for objects that are no JSON: a string for a Decimal, a list for a set, a model's fields.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise TypeError("NaN and infinities are no JSON numbers")
        return str(value)
    if isinstance(value, set | frozenset):
        return list(value)
    # Pydantic's models. A number of seconds or a time is then written as Pydantic does.
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes are no text: decode them, or encode them as base64")
    raise TypeError(
        f"{type(value).__name__} is no JSON: convert it, or give the publisher a default="
    )


def _finite(value: Any, convert: Callable[[Any], Any]) -> bool:
    """Whether no float in what orjson has written as JSON is a NaN or infinite."""
    if isinstance(value, float):
        return isfinite(value)
    if value is None or isinstance(value, _ATOMS):
        return True
    parts: Iterable[Any]
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif is_dataclass(value):
        parts = [getattr(value, each.name, None) for each in fields(value)]
    else:
        parts = [value.value if isinstance(value, Enum) else convert(value)]
    return all(_finite(each, convert) for each in parts)


_ATOMS: Final = (str, int, date, time, UUID)
"""What orjson writes by itself and cannot hold a float."""


def check_text(name: str, value: object, *, empty: bool = False) -> None:
    """A string of Unicode characters (so no lone surrogates), not empty unless that is allowed."""
    expected = f"{name} must be a string" + ("" if empty else " that is not empty")
    if not isinstance(value, str):
        raise InvalidData(f"{expected}, and this is of type {type(value).__name__}")
    if not (value or empty):
        raise InvalidData(expected)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidData(f"{name} must be valid Unicode") from None


def check_grantee(value: object) -> None:
    """To whom a channel is granted: a user's id, or ``EVERYBODY``."""
    if value is not EVERYBODY:
        check_user(value)


def check_user(value: object) -> None:
    """One user's id."""
    if value is EVERYBODY:
        raise InvalidData("this is for one user, and not for EVERYBODY")
    check_name("user", value)


def check_name(name: str, value: object) -> None:
    """What names a user or a session."""
    check_text(name, value)
    # An enum's member may be a string, and be written under another one: its name.
    if str(value) != value:
        raise InvalidData(f"{name} must be a plain string: pass the value of {value!r}")


def channel_of_user(user: str) -> str:
    """The channel of a user's notifications.

    Raises:
        InvalidData: ``user`` is no user's id. Whether a channel can be called so is not looked at.
    """
    check_user(user)
    return f"{NOTIFICATIONS}/{user}"


def channels_of(channels: Iterable[str] | None, users: Iterable[str] | None) -> Iterable[str]:
    """The channels of a broadcast: those given, or the notifications of ``users``, one after the other.

    What is wrong with one of them is found when it is its turn, and is told in its place.

    Raises:
        InvalidData: both are given or neither, or a single name in the place of several.
    """
    if (channels is None) == (users is None):
        raise InvalidData("a broadcast needs channels or users, and not both")
    name, given = ("channels", channels) if users is None else ("users", users)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidData(f"{name} must be several: a list of strings, for example")
    if users is None:
        return given
    # What is no user's id is left as it is, and refused as a channel.
    return (
        f"{NOTIFICATIONS}/{user}" if isinstance(user, str) and str(user) == user else user
        for user in users
    )


def channel_of_session(session: str) -> str:
    """The channel of a session's results.

    Raises:
        InvalidData: ``session`` is no session's id. Whether a channel can be called so is not looked at.
    """
    check_name("session", session)
    return f"{RUN_RESULTS}/{session}"


def check_integer(name: str, value: object, lowest: int, highest: int = MAX_ID) -> None:
    """An integer (``True`` is none) from ``lowest`` to ``highest``."""
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidData(f"{name} must be an integer from {lowest} to {highest}")


def check_min_replicas(value: object) -> None:
    """How many replicas shall confirm a publish; 0 for none."""
    check_integer("min_replicas", value, lowest=0, highest=MAX_REPLICAS)


def check_replica_timeout(value: object) -> None:
    """How long replicas may take, in seconds."""
    if type(value) not in {int, float} or not 0 < value <= MAX_REPLICA_SECONDS:  # type: ignore[operator]
        raise InvalidData(
            f"replica_timeout must be a number of seconds over 0, at most {MAX_REPLICA_SECONDS}"
        )


def check_retries(value: object) -> None:
    """How often a call is tried again; 0 for never."""
    check_integer("retries", value, lowest=0)


def check_timeout(value: object) -> None:
    """How long Redis may take, in seconds."""
    if type(value) not in {int, float} or not 0 < value <= MAX_TIMEOUT_SECONDS:  # type: ignore[operator]
        raise InvalidData(
            f"timeout must be a number of seconds over 0, at most {MAX_TIMEOUT_SECONDS}"
        )


def check_wait_confirmed(value: object) -> None:
    """How long a publish waits until somebody has confirmed it, in seconds."""
    if type(value) not in {int, float} or not 0 < value <= MAX_TIMEOUT_SECONDS:  # type: ignore[operator]
        raise InvalidData(
            f"wait_confirmed must be a number of seconds over 0, at most {MAX_TIMEOUT_SECONDS}"
        )


def check_give_up_after(value: object) -> None:
    """How long a call is tried again while another server may take over, in seconds."""
    if type(value) not in {int, float} or not 0 <= value <= MAX_TIMEOUT_SECONDS:  # type: ignore[operator]
        raise InvalidData(f"give_up_after must be a number of seconds, 0 to {MAX_TIMEOUT_SECONDS}")


LATEST_SECONDS: Final = 100_000_000_000
"""In the year 5138. What is later is a number of milliseconds."""


def seconds_since_1970(name: str, value: object) -> float:
    """A moment: a ``datetime`` with its time zone, or a number of seconds since 1970.

    Raises:
        InvalidData: anything else.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidData(f"{name} must have a time zone: datetime.now(UTC), for example")
        value = value.timestamp()
    if type(value) not in {int, float} or not 0 <= value < LATEST_SECONDS:  # type: ignore[operator]
        hint = " (milliseconds?)" if isinstance(value, int | float) and value > 0 else ""
        raise InvalidData(
            f"{name} must be a datetime with a time zone, or a number of seconds since 1970{hint}"
        )
    return float(value)  # type: ignore[arg-type]


MAX_REASON_BYTES: Final = 500
MAX_ACTOR_BYTES: Final = 255


def check_reason(value: object) -> None:
    """Why a user's connections are ended; their clients are told."""
    _check_line("reason", value, MAX_REASON_BYTES)


def check_actor(value: object) -> None:
    """On whose behalf a publisher acts, if it says so."""
    if value is not None:
        _check_line("actor", value, MAX_ACTOR_BYTES)


def _check_line(name: str, value: object, most: int) -> None:
    check_text(name, value, empty=True)
    assert isinstance(value, str)
    if len(value.encode()) > most or any(unicodedata.category(each) == "Cc" for each in value):
        raise InvalidData(f"{name} must have at most {most} bytes and no control characters")


def check_connection(value: object) -> None:
    """One connection of a user: its node and its id, as ``connections`` lists them."""
    check_name("connection", value)
    node, slash, id_ = str(value).partition("/")
    if not (node and slash and id_) or "/" in id_:
        raise InvalidData(
            "connection must be <node>/<id>, as connections() lists them: an id alone is unique only within a node"
        )


def check_ttl(ttl: object) -> None:
    """A time to live in whole seconds, or ``None`` for ever."""
    if ttl is not None and (type(ttl) is not int or not 1 <= ttl <= MAX_TTL_SECONDS):
        raise InvalidData(
            f"ttl must be a number of whole seconds from 1 to {MAX_TTL_SECONDS}, or None for ever"
        )
