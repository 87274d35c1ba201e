"""JSON that is kept for a while: a message until Redis has it or its page is full, an answer until its caller has read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson


def written(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """A JSON text that takes no more memory than its length.

    orjson leaves the buffer in which it wrote as it is: 4 KiB at least, and up to thirteen times the text.

    Args:
        value: what is written.
        default: is asked for what JSON cannot hold.

    Raises:
        orjson.JSONEncodeError: something in it cannot be written.
    """
    return memoryview(orjson.dumps(value, default)).tobytes()
