"""What goes into the calls and what comes out of them, and the checks of arguments.

What goes into the calls and what comes out of them.

Checks of a call's arguments, before anything is sent. Each raises ``InvalidInput``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from publisher.contract.channels import Retention
from publisher.contract.message import MAX_ID
from publisher.errors import InvalidData, MessageTooLarge


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message for ``publish_many``.

    ``retention`` replaces the namespace's for this publish, ``min_replicas`` the publisher's.
    """

    channel: str
    data: Any
    idempotency_key: str | None = None
    retention: Retention | None = None
    min_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publish.

    ``id`` is the message's id, in microseconds of the Redis clock; 0 when the namespace keeps no log.
    ``duplicate``: an earlier call has published under this idempotency key, and ``id`` is its message's.
    """

    id: int
    channel: str
    duplicate: bool = False


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


MAX_TTL_SECONDS: Final = 1_000_000_000
"""About 31 years. Redis refuses an expiry that overflows only after the grant has been written."""

MAX_TIMEOUT_SECONDS: Final = 86_400

MAX_REPLICAS: Final = 1_000
MAX_REPLICA_SECONDS: Final = 3_600


def dump_json(data: Any, max_bytes: int) -> bytes:
    """``data`` as JSON of at most ``max_bytes``."""
    try:
        body = orjson.dumps(data)
    except orjson.JSONEncodeError as error:
        raise InvalidData(f"data cannot be written as JSON: {error}") from None
    if len(body) > max_bytes:
        raise MessageTooLarge(len(body), max_bytes)
    return body


def check_text(name: str, value: object, *, empty: bool = False) -> None:
    """A string of Unicode characters (so no lone surrogates), not empty unless that is allowed."""
    if not isinstance(value, str) or not (value or empty):
        raise InvalidData(f"{name} must be a string" + ("" if empty else " that is not empty"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidData(f"{name} must be valid Unicode") from None


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


def check_ttl(ttl: object) -> None:
    """A time to live in whole seconds, or ``None`` for ever."""
    if ttl is not None and (type(ttl) is not int or not 1 <= ttl <= MAX_TTL_SECONDS):
        raise InvalidData(
            f"ttl must be a number of whole seconds from 1 to {MAX_TTL_SECONDS}, or None for ever"
        )
