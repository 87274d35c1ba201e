"""Frames as clients send them, and as they should not (RFC 6455 §5.2)."""

from __future__ import annotations

import zlib
from itertools import cycle
from operator import xor

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10

MASK = b"\x37\xfa\x21\x3d"


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    mask: bytes | None = MASK,
    fin: bool = True,
    reserved: int = 0,
    width: int | None = None,
) -> bytes:
    """One frame.

    Args:
        mask: four bytes; ``None`` leaves the payload as it is, which no client may do.
        reserved: bits of the extensions.
        width: bytes of the extended length (0, 2 or 8); the shortest form unless given.
    """
    size = len(payload)
    if width is None:
        width = 0 if size < 126 else 2 if size < 65_536 else 8
    flag = {0: size, 2: 126, 8: 127}[width] | (0x80 if mask is not None else 0)
    head = bytes([(0x80 if fin else 0) | reserved | opcode, flag])
    length = size.to_bytes(width) if width else b""
    return head + length + (payload if mask is None else mask + masked(payload, mask))


def masked(payload: bytes, mask: bytes) -> bytes:
    """As the specification has it: octet by octet (RFC 6455 §5.3)."""
    return bytes(map(xor, payload, cycle(mask)))


def squeezed(payload: bytes) -> bytes:
    """The payload of a compressed message (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    whole = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return whole.removesuffix(b"\x00\x00\xff\xff")


def finished(payload: bytes) -> bytes:
    """A payload whose last block says that no other follows (RFC 7692 §7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)
