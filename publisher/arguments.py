"""Checks of a call's arguments, before anything is sent. Each raises ``InvalidInput``."""

from __future__ import annotations

from typing import Any, Final

import orjson

from publisher.errors import InvalidData, MessageTooLarge
from publisher.message import MAX_ID

MAX_TTL_SECONDS: Final = 1_000_000_000
"""About 31 years. Redis refuses an expiry that overflows only after the grant has been written."""

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


def check_ttl(ttl: object) -> None:
    """A time to live in whole seconds, or ``None`` for ever."""
    if ttl is not None and (type(ttl) is not int or not 1 <= ttl <= MAX_TTL_SECONDS):
        raise InvalidData(
            f"ttl must be a number of whole seconds from 1 to {MAX_TTL_SECONDS}, or None for ever"
        )
