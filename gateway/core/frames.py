"""WebSocket frames as bytes (RFC 6455 §5, RFC 7692).

A server's frames are not masked, so that the same bytes serve every socket.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from struct import pack
from typing import Final, NamedTuple

from gateway.core import protocol
from gateway.core.closing import Closing

_FIN: Final = 0x80
_MASKED: Final = 0x80
_RSV1: Final = 0x40  # the message is compressed (RFC 7692 §6)
_TEXT: Final = 0x1
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA

DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of what was deflated, which is left out on the wire (RFC 7692 §7.2.1)."""


def _frame(head: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return pack("!BB", head, size) + payload
    if size < 65536:
        return pack("!BBH", head, 126, size) + payload
    return pack("!BBQ", head, 127, size) + payload


def text(payload: bytes) -> bytes:
    """A text message in one frame."""
    return _frame(_FIN | _TEXT, payload)


def ping(payload: bytes) -> bytes:
    """A ping; the pong brings ``payload`` (at most 125 bytes) back."""
    return _frame(_FIN | _PING, payload)


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return _frame(_FIN | _PONG, payload)


def close(closing: Closing) -> bytes:
    """A close frame."""
    return _frame(_FIN | _CLOSE, pack("!H", closing.code) + closing.reason.encode())


def deflated(payload: bytes, window_bits: int) -> bytes:
    """A compressed text message that rests on no message before it.

    Without shared context the same bytes serve every socket with this window, and a socket costs no
    compressor (RFC 7692 §7.1.1: the sender is free not to use the context).
    """
    compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -window_bits)
    squeezed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return _frame(_FIN | _RSV1 | _TEXT, squeezed.removesuffix(DEFLATE_TAIL))


WHOLE_PONG: Final = _FIN | _PONG
WHOLE_TEXT: Final = _FIN | _TEXT
WHOLE_CLOSE: Final = _FIN | _CLOSE

_SHORT_HEAD: Final = 6  # two bytes and the mask; the length is in the second
_LONGEST_SHORT: Final = _SHORT_HEAD + 125


def is_short(data: bytes) -> bool:
    """Whether ``data``, at a frame's beginning, is just one masked frame of at most 125 bytes."""
    size = len(data)
    return _SHORT_HEAD <= size <= _LONGEST_SHORT and data[1] == _MASKED | (size - _SHORT_HEAD)


def unmasked(short: bytes) -> bytes:
    """The payload of a frame that :func:`is_short` (RFC 6455 §5.3)."""
    size = len(short) - _SHORT_HEAD
    mask = (short[2:_SHORT_HEAD] * (size // 4 + 1))[:size]
    number = int.from_bytes(short[_SHORT_HEAD:], "little") ^ int.from_bytes(mask, "little")
    return number.to_bytes(size, "little")


class Boundaries:
    """Follows where frames end in a stream that is cut anywhere, without looking into them.

    ``at_rest``: the stream so far ends with the end of a frame.
    """

    __slots__ = ("_head", "_missing", "at_rest")

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0
        self.at_rest = True

    def cut(self, data: bytes, most: int | None = None) -> list[bytes]:
        """Take the next part of the stream; returns it in pieces, in none of which two frames end.

        Where there are more than ``most`` pieces, only those are taken, and the stream goes on behind them.
        """
        seen = len(self._head)
        known = self._head + data
        position = self._missing
        pieces = []
        start = 0
        while position < len(known):
            if position > seen:
                pieces.append(data[start : position - seen])
                start = position - seen
                if len(pieces) == most:
                    self._head, self._missing, self.at_rest = b"", 0, True
                    return pieces
            end = _frame_end(known, position)
            if end is None:
                break
            position = end
        pieces.append(data[start:])
        self._head = known[position:]
        self._missing = max(0, position - len(known))
        self.at_rest = not self._head and not self._missing
        return pieces


def _frame_end(data: bytes, start: int) -> int | None:
    """Where the frame ends that begins at ``start``; ``None`` while that cannot be told."""
    if len(data) < start + 2:
        return None
    size = data[start + 1] & 0x7F
    mask = 4 if data[start + 1] & _MASKED else 0
    wide = {126: 2, 127: 8}.get(size, 0)
    if len(data) < start + 2 + wide:
        return None
    if wide:
        size = int.from_bytes(data[start + 2 : start + 2 + wide])
    return start + 2 + wide + mask + size


class Encoding(NamedTuple):
    """How a socket wants its messages: sockets that agree share the bytes.

    ``window_bits`` of 0: not compressed. ``batch``: a frame may hold an array of messages. ``asks``: a pong tells what the
    client has received.
    """

    window_bits: int
    batch: bool

    @property
    def asks(self) -> bool:
        """Whether the client answers pings."""
        return True

    @property
    def transport(self) -> str:
        """The name of this kind of connections in the metrics."""
        return "websocket"

    def told(self, message: bytes) -> bytes:
        """A message that is no data, as the client is sent it; these are short, and for one client."""
        return text(message)

    def ping(self, payload: bytes) -> bytes:
        """What asks for a sign of life."""
        return ping(payload)


PLAIN: Final = Encoding(0, False)


@cache
def encoding(window_bits: int, batch: bool) -> Encoding:
    """The one :class:`Encoding` of all sockets that want the same."""
    return Encoding(window_bits, batch)


MAX_BATCH_BYTES: Final = 256 * 1024
"""A frame with a batch grows no larger, so that a client's first message does not wait for its last."""


@dataclass(slots=True)
class Compression:
    """Bytes ``before`` and ``after`` compression, once for each message and way of compressing, not for each socket."""

    before: int = 0
    after: int = 0


_BATCH_EXTRA_BYTES: Final = 2  # the brackets; a comma counts with its message


def encode(
    texts: Sequence[bytes],
    encodings: Iterable[Encoding],
    threshold: int,
    compression: Compression,
) -> dict[Encoding, bytes]:
    """Turn messages into what each kind of socket is to be sent, all in one piece.

    Each is compressed at most once for all sockets that want it alike; only what is longer than ``threshold`` bytes is
    compressed. ``compression`` is told what that has saved.
    """
    if len(texts) == 1 and len(texts[0]) <= threshold:
        return dict.fromkeys(encodings, text(texts[0]))
    large = any(len(each) > threshold for each in texts)
    singly: dict[int, bytes] = {}
    encoded: dict[Encoding, bytes] = {}
    for encoding in encodings:
        if encoding.batch and len(texts) > 1:
            encoded[encoding] = _frames(
                _batches(texts), encoding.window_bits, threshold, compression
            )
            continue
        window_bits = encoding.window_bits if large else 0
        if window_bits not in singly:
            singly[window_bits] = _frames(texts, window_bits, threshold, compression)
        encoded[encoding] = singly[window_bits]
    return encoded


def _frames(
    texts: Iterable[bytes], window_bits: int, threshold: int, compression: Compression
) -> bytes:
    frames = []
    for each in texts:
        if not window_bits or len(each) <= threshold:
            frames.append(text(each))
            continue
        frame = deflated(each, window_bits)
        compression.before += len(each)
        compression.after += len(frame)
        frames.append(frame)
    return b"".join(frames)


def _batches(texts: Sequence[bytes]) -> Iterator[bytes]:
    """Arrays of messages, none longer than it has to be over ``MAX_BATCH_BYTES``."""
    group: list[bytes] = []
    size = 0
    for each in texts:
        if group and size + len(each) + _BATCH_EXTRA_BYTES > MAX_BATCH_BYTES:
            yield group[0] if len(group) == 1 else protocol.batch(group)
            group, size = [], 0
        group.append(each)
        size += len(each) + 1
    yield group[0] if len(group) == 1 else protocol.batch(group)
