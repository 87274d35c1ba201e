"""An independent reader of server frames (RFC 6455 §5.2), stricter than a client has to be."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


@dataclass(frozen=True)
class Frame:
    opcode: int
    compressed: bool
    payload: bytes


def frames_in(data: bytes) -> list[Frame]:
    """All frames in ``data``, which holds nothing else."""
    frames = []
    while data:
        head, length = data[0], data[1]
        assert head & 0x80, "a message in pieces"
        assert not head & 0x30, "RSV2 and RSV3 belong to no extension of ours"
        assert not length & 0x80, "a server never masks"
        start = 2
        if length >= 126:
            width = 2 if length == 126 else 8
            start += width
            length = int.from_bytes(data[2:start])
            assert length >= (126 if width == 2 else 65536), "not the shortest form of the length"
            assert length < 1 << 63
        payload, data = data[start : start + length], data[start + length :]
        assert len(payload) == length, "a frame cut short"
        frames.append(Frame(head & 0x0F, bool(head & 0x40), payload))
    return frames


def inflate(payload: bytes, window_bits: int = 15) -> bytes:
    """A compressed message, read by a client that remembers nothing (RFC 7692 §7.2.2)."""
    reader = zlib.decompressobj(-window_bits)
    return reader.decompress(payload + b"\x00\x00\xff\xff") + reader.flush()


def text_of(frame: Frame, window_bits: int = 15) -> bytes:
    """What a text frame says."""
    return inflate(frame.payload, window_bits) if frame.compressed else frame.payload


def texts_in(data: bytes, window_bits: int = 15) -> list[bytes]:
    """The text messages in ``data``."""
    return [text_of(frame, window_bits) for frame in frames_in(data) if frame.opcode == TEXT]


def messages_of(frame: Frame, window_bits: int = 15) -> list[dict[str, Any]]:
    """The JSON messages in a text frame, an array taken apart."""
    value = json.loads(text_of(frame, window_bits))
    return value if isinstance(value, list) else [value]


def messages_in(data: bytes, window_bits: int = 15) -> list[dict[str, Any]]:
    """The JSON messages in ``data``, arrays taken apart."""
    return [
        message
        for frame in frames_in(data)
        if frame.opcode == TEXT
        for message in messages_of(frame, window_bits)
    ]
