"""Answers to many polls in gzip (RFC 1952): what they have in common is compressed once."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from typing import Final, NamedTuple

_GZIP: Final = 16 + zlib.MAX_WBITS
"""Makes zlib write the header of gzip."""
_KEPT: Final = 4
"""So many beginnings are kept, for what comes in several channels in one turn of the event loop."""
_STORED: Final = b"\x01"
"""Begins the last block of a stream, whose bytes stand in it as they are (RFC 1951 §3.2.4); before it the stream ends with a byte."""
_LONGEST_STORED: Final = 0xFFFF


class _Beginning(NamedTuple):
    """A beginning of answers: as it is, compressed up to a whole byte, and its checksum."""

    plain: bytes
    compressed: bytes
    checksum: int


class SharedGzip:
    """Compresses JSON arrays whose last members differ: a message that many clients wait for is compressed for all at once.

    Clients' streams could not share it in the same way: a checksum at the end of each covers all that is before it.
    """

    def __init__(self) -> None:
        self._beginnings: deque[_Beginning] = deque(maxlen=_KEPT)

    def compress(self, body: bytes) -> bytes:
        """An array in gzip. Its last member is left as it is: it is short, and another one for each client."""
        end = max(body.rfind(b"{"), 0)
        if len(body) - end > _LONGEST_STORED:
            end = len(body)
        beginning = self._beginning(body[:end])
        rest = body[end:]
        return b"".join(
            (
                beginning.compressed,
                _STORED,
                struct.pack("<HH", len(rest), len(rest) ^ 0xFFFF),
                rest,
                struct.pack("<II", zlib.crc32(rest, beginning.checksum), len(body) & 0xFFFF_FFFF),
            )
        )

    def _beginning(self, plain: bytes) -> _Beginning:
        for each in self._beginnings:
            if each.plain == plain:
                return each
        compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, _GZIP)
        compressed = compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)
        beginning = _Beginning(plain, compressed, zlib.crc32(plain))
        self._beginnings.appendleft(beginning)
        return beginning
