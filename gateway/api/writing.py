"""JSON that is kept for a while: an answer until its caller has read it, a message until its page is full."""

from __future__ import annotations

from typing import Any

import orjson


def written(value: Any) -> bytes:
    """A JSON text that takes no more memory than its length.

    orjson leaves the buffer in which it wrote as it is: 4 KiB at least, and up to thirteen times the text.
    """
    return memoryview(orjson.dumps(value)).tobytes()
