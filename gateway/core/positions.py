"""Where a client stands in several channels, in one short text that it gives back when it comes again.

No node keeps it, so that the client may come back to any. With one channel it is the id of the last message.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from publisher.contract.message import MAX_ID

_MARK: Final = b"p"
"""What it begins with: no id of a message does."""

_NUMBERED: Final = "."
"""Stands before what :func:`told_apart` adds, and in no position."""
_LONGEST_NUMBER: Final = 9

LONGEST: Final = 1_024
_DIGEST_BYTES: Final = 4
_BYTES: Final = 7  # of a position: ids are below 2^53
_MOST: Final = ((LONGEST - len(_MARK)) // 4 * 3 - _DIGEST_BYTES) // _BYTES
_UNKNOWN: Final = b"\xff" * _BYTES

Position = int | None
"""The id of the last message of a channel, 0 for the beginning; ``None`` where it is not known."""


class Encoder:
    """Writes positions in the same channels again and again. What has not changed is kept."""

    __slots__ = ("_names", "_packed", "_positions", "_text")

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._positions: Sequence[Position] = ()
        self._packed = bytearray()
        self._text = b""

    def encode(self, positions: Sequence[Position]) -> bytes:
        """Positions in the channels, as at most 1 KB of ASCII without spaces.

        Where they are too many, those behind are left out: there the client goes on behind what is confirmed.
        """
        if len(self._names) == 1:
            return b"" if positions[0] is None else b"%d" % positions[0]
        if positions != self._positions:
            self._pack(positions[:_MOST])
            self._positions = positions
            self._text = _MARK + urlsafe_b64encode(self._packed).rstrip(b"=")
        return self._text

    def _pack(self, positions: Sequence[Position]) -> None:
        packed = self._packed
        if not packed:
            packed += _digest(self._names) + _UNKNOWN * len(positions)
        start = _DIGEST_BYTES
        for position, before in zip_longest(positions, self._positions[: len(positions)]):
            if position != before:
                packed[start : start + _BYTES] = (
                    _UNKNOWN if position is None else position.to_bytes(_BYTES)
                )
            start += _BYTES


def told_apart(text: str, before: str) -> str:
    """These positions, in a text that is neither empty nor ``before``: so an answer to a poll is told from those before it.

    A number that rises follows where they are the same.
    """
    same, _, number = before.partition(_NUMBERED)
    if text not in {"", same}:
        return text
    is_number = number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER
    return f"{text}{_NUMBERED}{int(number) + 1 if is_number else 1}"


def decode(names: Sequence[str], text: str) -> list[Position]:
    """The positions in these channels; ``None`` in each where it is not theirs, or none at all."""
    text = text.partition(_NUMBERED)[0]
    unknown: list[Position] = [None] * len(names)
    if len(names) == 1 and text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ID)):
        return [min(int(text), MAX_ID)]
    raw = text.encode(errors="replace")
    if len(raw) > LONGEST or not raw.startswith(_MARK):
        return unknown
    try:
        packed = urlsafe_b64decode(raw[len(_MARK) :] + b"=" * (-(len(raw) - len(_MARK)) % 4))
    except ValueError:
        return unknown
    if packed[:_DIGEST_BYTES] != _digest(names):
        return unknown
    numbers = [
        int.from_bytes(packed[start : start + _BYTES])
        for start in range(_DIGEST_BYTES, len(packed) - _BYTES + 1, _BYTES)
    ]
    found = [each if each <= MAX_ID else None for each in numbers[: len(names)]]
    return found + unknown[len(found) :]


def _digest(names: Sequence[str]) -> bytes:
    """Tells lists of channels apart: positions go by their order."""
    return zlib.crc32("\n".join(names).encode()).to_bytes(_DIGEST_BYTES)
