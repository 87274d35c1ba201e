"""What a client's bytes are after the handshake (RFC 6455 §5): the same messages, however they are cut."""

from __future__ import annotations

import random
from typing import Any, Final

from hypothesis import strategies as st

from gateway.web.incoming_frames import Inbox
from tests.fuzz.mutating import pieces
from tests.support.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    RSV1,
    TEXT,
    client_frame,
    finished,
    squeezed,
)

MAX_BYTES: Final = 4_096
_MOST_BYTES: Final = 8_192
"""Of an input: what is more is left for the next turns of the event loop (``FRAMES_PER_TURN``)."""
_CONTROL_BYTES: Final = 125
_PLAIN: Final = bytes(4)
_VIOLATIONS: Final = {1002, 1007, 1009}

Event = tuple[str, Any]


def _frames(mask: bytes) -> list[bytes]:
    def frame(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
        return client_frame(opcode, payload, mask=mask, **options)

    heartbeat = b'{"type":"heartbeat"}'
    squeezed_heartbeat = squeezed(heartbeat)
    return [
        frame(TEXT, heartbeat),
        frame(TEXT, heartbeat) * 40,
        frame(TEXT, "ü€😀".encode()),
        frame(TEXT, b"x" * 126),
        frame(TEXT, b"x" * 200, width=8),
        frame(BINARY, b"\0\xff"),
        frame(PING, b"p" * _CONTROL_BYTES),
        frame(PONG, b"c1:1640995200000000"),
        frame(CLOSE),
        frame(CLOSE, b"\x03\xe8bye"),
        frame(CLOSE, b"\x0f\xa0"),
        frame(TEXT, heartbeat[:5], fin=False) + frame(PING) + frame(CONTINUATION, heartbeat[5:]),
        frame(TEXT, squeezed_heartbeat, reserved=RSV1),
        frame(TEXT, squeezed(b"x" * MAX_BYTES), reserved=RSV1),
        frame(TEXT, squeezed(b"x" * 1_000_000), reserved=RSV1),
        frame(TEXT, finished(heartbeat) + b"\0", reserved=RSV1),
        frame(TEXT, finished(b"") * 3 + squeezed_heartbeat, reserved=RSV1),
        frame(TEXT, squeezed_heartbeat[:4], reserved=RSV1, fin=False)
        + frame(CONTINUATION, squeezed_heartbeat[4:]),
        frame(TEXT, b"x" * (MAX_BYTES + 1)),
    ]


class Heard:
    """Writes down what is heard, and that nothing follows the end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.over = False

    def arrived(self, cost: float) -> bool:
        assert cost >= 0
        return True

    def text(self, message: bytes, paid: float = 0.0) -> None:
        message.decode()
        assert len(message) <= MAX_BYTES
        assert paid >= 0
        self._note("text", message)

    def binary(self, message: bytes) -> None:
        assert len(message) <= MAX_BYTES
        self._note("binary", message)

    def ping(self, payload: bytes) -> None:
        assert len(payload) <= _CONTROL_BYTES
        self._note("ping", payload)

    def pong(self, payload: bytes) -> None:
        assert len(payload) <= _CONTROL_BYTES
        self._note("pong", payload)

    def closed(self, code: int) -> None:
        assert code == 1005 or 1000 <= code < 5000
        self._note("closed", code)
        self.over = True

    def violated(self, code: int) -> None:
        assert code in _VIOLATIONS
        self._note("violated", code)
        self.over = True

    def failed(self, error: Exception) -> None:
        raise AssertionError("what was heard could not be served") from error

    def _note(self, kind: str, what: object) -> None:
        assert not self.over, "something was heard after the end"
        self.events.append((kind, what))


def heard(parts: list[bytes], *, compress: bool) -> list[Event]:
    """What is heard of a stream that comes in these parts."""
    listener = Heard()
    inbox = Inbox(listener, MAX_BYTES, compress=compress)
    for part in parts:
        rest = part
        while left := inbox.feed(rest):
            assert left < len(rest), "nothing was taken in this turn"
            rest = rest[-left:]
        assert inbox._so_far is None or len(inbox._so_far) <= MAX_BYTES
    return listener.events


class Frames:
    """A stream that is cut in one way and another is heard in the same way."""

    name = "frames"
    corpus = _frames(_PLAIN) + _frames(MASK)
    words = (
        *(bytes([0x80 | opcode, 0x80]) + _PLAIN for opcode in (0, 1, 2, 8, 9, 10)),
        *(b"\x81\xfe\xff\xff", b"\x81\xff" + b"\xff" * 8, b"\x80\xff\0\0\0\0\0\0\0\1", b"\xc1"),
        *(b"\0\0\xff\xff", b"\x03\xe8", b"\xed\xa0\x80", _PLAIN),
    )
    structured = st.lists(
        st.builds(
            client_frame,
            st.sampled_from([0, 1, 1, 2, 8, 9, 10, 3, 11]),
            st.binary(max_size=130) | st.text(max_size=20).map(str.encode),
            mask=st.just(_PLAIN) | st.binary(min_size=4, max_size=4) | st.none(),
            fin=st.booleans(),
            reserved=st.sampled_from([0, 0, 0, RSV1, 0x30]),
            width=st.sampled_from([None, 8]),
        ),
        max_size=6,
    ).map(b"".join)

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        compress = dice.random() < 0.7
        data = data[:_MOST_BYTES]
        assert heard([data], compress=compress) == heard(pieces(data, dice), compress=compress)
