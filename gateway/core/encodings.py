"""How clients are sent their messages: those that want them alike share the bytes, whichever way they have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from gateway.core import frames, protocol
from gateway.core.events import EventEncoding, PollEncoding
from gateway.core.frames import Compression
from publisher.contract.message import Message

Encoding: TypeAlias = frames.Encoding | EventEncoding | PollEncoding


def encode(
    prefix: bytes,
    messages: Sequence[Message],
    encodings: Iterable[Encoding],
    threshold: int,
    compression: Compression,
) -> dict[Encoding, bytes]:
    """Turn a channel's messages into what each kind of client is to be sent, all in one piece.

    Each message is rendered once. ``threshold`` and ``compression`` are those of :func:`frames.encode`.
    """
    texts = [protocol.data(prefix, message) for message in messages]
    in_frames: list[frames.Encoding] = []
    encoded: dict[Encoding, bytes] = {}
    for encoding in encodings:
        if isinstance(encoding, frames.Encoding):
            in_frames.append(encoding)
        else:
            encoded[encoding] = encoding.data(messages, texts)
    if in_frames:
        of_frames = frames.encode(texts, in_frames, threshold, compression)
        encoded.update(of_frames.items())
    return encoded
