"""Where a client stands in several channels, in one short text that it gives back when it comes again.

No node keeps it, so that the client may come back to any. With one channel it is the id of the last message.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from typing import Final

from publisher.contract.message import MAX_ID

_MARK: Final = b"p"
"""What it begins with: no id of a message does."""

LONGEST: Final = 1_024
_MOST_BYTES: Final = (LONGEST - len(_MARK)) // 4 * 3
_DIGEST_BYTES: Final = 4

Position = int | None
"""The id of the last message of a channel, 0 for the beginning; ``None`` where it is not known."""


def encode(names: Sequence[str], positions: Sequence[Position]) -> bytes:
    """Positions in channels, as at most 1 KB of ASCII without spaces.

    Where they are too many, those behind are left out: there the client goes on behind what is confirmed.
    """
    if len(names) == 1:
        return b"" if positions[0] is None else b"%d" % positions[0]
    newest = max((each for each in positions if each is not None), default=0)
    packed = bytearray(_digest(names) + _varint(newest))
    for each in positions:
        # Close to each other in time, so that most take five bytes or fewer.
        following = _varint(0 if each is None else newest - each + 1)
        if len(packed) + len(following) > _MOST_BYTES:
            break
        packed += following
    return _MARK + urlsafe_b64encode(packed).rstrip(b"=")


def decode(names: Sequence[str], text: str) -> list[Position]:
    """The positions in these channels; ``None`` in each where it is not theirs, or none at all."""
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
    numbers = _varints(packed[_DIGEST_BYTES:])
    newest = next(numbers, 0)
    found: list[Position] = []
    for _, behind in zip(names, numbers, strict=False):
        position = newest - behind + 1 if behind else None
        found.append(position if position is None or 0 <= position <= MAX_ID else None)
    return found + unknown[len(found) :]


def _digest(names: Sequence[str]) -> bytes:
    """Tells lists of channels apart: positions go by their order."""
    return zlib.crc32("\n".join(names).encode()).to_bytes(_DIGEST_BYTES)


def _varint(number: int) -> bytes:
    """A number in as few bytes as it needs, seven bits in each, the lowest first."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _varints(octets: bytes) -> Iterator[int]:
    number = shift = 0
    for each in octets:
        number |= (each & 0x7F) << shift
        shift += 7
        if not each & 0x80:
            yield number
            number = shift = 0
