"""The trace that a message belongs to, as W3C Trace Context names it: a ``traceparent``.

::

    00-<trace id, 32 hexadecimal digits>-<id of the span above, 16>-<flags, 2>

In Redis it stands behind the nonce of an entry (``message.py``), which no reader looks into, so that one that knows nothing of
traces reads the message as any other. It is there only if the trace is sampled (the lowest bit of the flags): nobody would make a span
for it otherwise.
"""

from __future__ import annotations

import re
from typing import Final

_IDS: Final = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-"
_FORM: Final = rf"{_IDS}[0-9a-f]{{2}}"
_OF_THIS_VERSION: Final = re.compile(f"00-{_FORM}")
_OF_ANY_VERSION: Final = re.compile(rf"(?!ff)([0-9a-f]{{2}})-({_FORM})(-.*)?", re.DOTALL)

_SAMPLED: Final = "13579bdf"
"""The last digits of flags whose lowest bit is set."""

_TRACED: Final = re.compile(
    rf"([0-9]{{1,16}}):([0-9]{{0,16}}):[^:+/]*/(00-{_IDS}[0-9a-f][{_SAMPLED}])(?:\+[^:]*)?:.".encode(),
    re.DOTALL,
)
_LONGEST_HEAD: Final = 256
"""Bytes before which the traceparent begins: behind two numbers and a nonce."""


def is_traceparent(text: str) -> bool:
    """Whether this is one, of version 00."""
    return _OF_THIS_VERSION.fullmatch(text) is not None


def is_sampled(traceparent: str) -> bool:
    """Whether spans are to be made of it."""
    return traceparent[-1] in _SAMPLED


def of_header(header: str) -> str | None:
    """What an HTTP header says, in the form of version 00; ``None`` where it counts as not given.

    Of a later version the parts are taken that this one has (W3C Trace Context, 4.3, "Versioning of traceparent").
    """
    found = _OF_ANY_VERSION.fullmatch(header.strip(" \t"))
    if found is None or (found[1] == "00" and found[3] is not None):
        return None
    return f"00-{found[2]}"


def behind_nonce(traceparent: str) -> str:
    """What is written behind the nonce of a message."""
    return f"/{traceparent}" if is_sampled(traceparent) else ""


def traced(entry: bytes) -> tuple[int, bool, str] | None:
    """Of a message that has a trace its id, whether it is logged, and the traceparent; ``None`` of all others.

    ``entry``: as it comes from Redis. One without a body has none.
    """
    # Most have none, and are looked at most quickly so.
    if entry.find(b"/00-", 0, _LONGEST_HEAD) < 0:
        return None
    found = _TRACED.match(entry)
    if found is None:
        return None
    return int(found[1]), bool(found[2]), found[3].decode()
