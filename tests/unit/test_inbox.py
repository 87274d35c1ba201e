"""A client's stream is heard as aiohttp's parser alone would hear it, however it is cut."""

from __future__ import annotations

import zlib
from typing import Any, cast

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket.models import WebSocketError
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.web.inbox import Inbox
from tests.support.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    client_frame,
    squeezed,
)
from tests.unit.cutting import cut

MAX_BYTES = 400

Event = tuple[str, Any]


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def text(self, message: bytes) -> None:
        self.events.append(("text", message))

    def binary(self) -> None:
        self.events.append(("binary", None))

    def ping(self, payload: bytes) -> None:
        self.events.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.events.append(("pong", payload))

    def closed(self, code: int) -> None:
        self.events.append(("closed", code))

    def violated(self, code: int) -> None:
        self.events.append(("violated", code))

    def failed(self, error: Exception) -> None:
        self.events.append(("failed", type(error)))


def heard_by_inbox(pieces: list[bytes], *, compress: bool) -> list[Event]:
    heard = Heard()
    inbox = Inbox(heard, MAX_BYTES, compress=compress)
    for piece in pieces:
        inbox.feed(piece)
    return heard.events


def heard_by_aiohttp(stream: bytes, *, compress: bool) -> list[Event]:
    """What its reader alone makes of the whole stream, up to the end of the conversation."""
    queue = WebSocketDataQueue(cast(Any, None), 1 << 30, loop=cast(Any, None))
    reader = WebSocketReader(queue, MAX_BYTES, compress=compress, decode_text=True)
    reader.feed_data(stream)
    events: list[Event] = []
    for message, _size in queue._buffer:
        match message.type:
            case WSMsgType.CLOSE:
                return [*events, ("closed", message.data or 1005)]
            case WSMsgType.BINARY:
                events.append(("binary", None))
            case WSMsgType.TEXT:
                events.append(("text", message.data.encode()))
            case kind:
                events.append((kind.name.lower(), bytes(message.data)))
    match queue.exception():
        case WebSocketError() as error:
            events.append(("violated", error.code))
        case zlib.error():
            events.append(("violated", 1007))
        case error:
            assert error is None
    return events


def before_unmasked(stream: bytes) -> bytes:
    """The stream up to the first frame without a mask, which RFC 6455 (§5.1) forbids and aiohttp takes."""
    at = 0
    while at < len(stream):
        if not stream[at + 1] & 0x80:
            break
        size, head = stream[at + 1] & 0x7F, 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(stream[at + 2 : at + head])
        at += head + 4 + size
    return stream[:at]


# -- what clients send ------------------------------------------------------------------------

masks = st.binary(min_size=4, max_size=4)
said = st.one_of(st.text(max_size=30), st.integers(100, MAX_BYTES + 5).map(lambda n: "x" * n)).map(
    str.encode
)
small = st.binary(max_size=20)


@st.composite
def whole(draw: st.DrawFn) -> list[bytes]:
    """A message or a control frame in one frame."""
    opcode, payload = draw(
        st.one_of(
            st.tuples(st.just(TEXT), said),
            st.tuples(st.just(PONG), small),
            st.tuples(st.just(PING), small),
            st.tuples(st.just(BINARY), small),
        )
    )
    return [client_frame(opcode, payload, mask=draw(masks))]


@st.composite
def fragmented(draw: st.DrawFn) -> list[bytes]:
    """A text in fragments, compressed or not, with pings and pongs between them."""
    text, rsv1 = draw(said), draw(st.booleans())
    payload = squeezed(text) if rsv1 else text
    places = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=3)))
    parts = [payload[a:b] for a, b in zip([0, *places], [*places, len(payload)], strict=True)]
    frames: list[bytes] = []
    for number, part in enumerate(parts):
        frames.append(
            client_frame(
                CONTINUATION if number else TEXT,
                part,
                mask=draw(masks),
                fin=number == len(parts) - 1,
                reserved=RSV1 if rsv1 and not number else 0,
            )
        )
        if draw(st.booleans()):
            frames.append(client_frame(draw(st.sampled_from([PING, PONG])), draw(small)))
    return frames


compressed = said.map(lambda text: [client_frame(TEXT, squeezed(text), reserved=RSV1)])
closing = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.tuples(
        st.sampled_from([999, 1000, 1001, 1004, 1005, 1007, 1011, 1016, 2999, 3000, 4999, 65_535]),
        st.sampled_from([b"", b"bye", b"\xff", "träge".encode()]),
    ).map(lambda each: each[0].to_bytes(2) + each[1]),
)
close = st.builds(lambda payload: [client_frame(CLOSE, payload)], closing)


@st.composite
def wrong(draw: st.DrawFn) -> list[bytes]:
    """A frame of which anything may be wrong."""
    payload = draw(st.binary(max_size=140))
    mask = draw(st.none() | masks)
    return [
        client_frame(
            draw(st.integers(0, 15)),
            payload,
            mask=mask,
            fin=draw(st.booleans()),
            reserved=draw(st.sampled_from([0, 0, 0, *range(16, 128, 16)])),
            width=draw(st.sampled_from([None, 2, 8])),
        )
    ]


@st.composite
def disguised(draw: st.DrawFn) -> list[bytes]:
    """A frame whose payload looks like a frame, and may come alone."""
    inner = client_frame(
        draw(st.sampled_from([TEXT, PONG, CLOSE])), draw(st.sampled_from([b"", b"x"]))
    )
    frame = client_frame(draw(st.sampled_from([BINARY, PING])), inner, mask=bytes(4))
    return [frame.removesuffix(inner), inner]


unfinished = st.builds(lambda text: [client_frame(TEXT, text, fin=False)], said)
not_utf8 = st.binary(min_size=1, max_size=9).map(lambda data: [client_frame(TEXT, data + b"\xff")])
conversation = st.lists(whole() | fragmented() | compressed | disguised(), max_size=6)
end = st.lists(close | wrong() | not_utf8 | unfinished, max_size=2)
conversations = st.tuples(conversation, end, conversation).map(
    lambda parts: [frame for part in parts for message in part for frame in message]
)


@settings(max_examples=500, deadline=None)
@given(st.data(), conversations, st.sampled_from([True, True, False]))
def test_a_stream_is_heard_as_aiohttp_alone_hears_it(
    data: st.DataObject, frames: list[bytes], compress: bool
) -> None:
    pieces = data.draw(cut(frames))
    stream = b"".join(frames)
    masked = before_unmasked(stream)
    expected = heard_by_aiohttp(masked, compress=compress)
    if masked != stream and not (expected and expected[-1][0] in {"closed", "violated"}):
        expected.append(("violated", 1002))
    event(str(expected[-1][0]) if expected else "nothing")
    assert heard_by_inbox(pieces, compress=compress) == expected


@settings(max_examples=200, deadline=None)
@given(conversations, st.sampled_from([True, True, False]))
def test_frames_that_come_alone_are_heard_as_those_that_come_together(
    frames: list[bytes], compress: bool
) -> None:
    stream = b"".join(frames)
    masked = before_unmasked(stream)
    expected = heard_by_aiohttp(masked, compress=compress)
    if masked != stream and not (expected and expected[-1][0] in {"closed", "violated"}):
        expected.append(("violated", 1002))
    assert heard_by_inbox(frames, compress=compress) == expected


ENDINGS = {
    "a usual close": (client_frame(CLOSE, b"\x03\xe8"), ("closed", 1000)),
    "a close without a code": (client_frame(CLOSE), ("closed", 1005)),
    "a close with a reason": (client_frame(CLOSE, b"\x0f\xa0bye"), ("closed", 4000)),
    "a close with half a code": (client_frame(CLOSE, b"\x03"), ("violated", 1002)),
    "text that is not UTF-8": (client_frame(TEXT, b"\xff"), ("violated", 1007)),
    "text that does not inflate": (
        client_frame(TEXT, b"\0\0", reserved=RSV1),
        ("violated", 1007),
    ),
    "reserved bits": (client_frame(TEXT, b"a", reserved=RSV2), ("violated", 1002)),
    "too much": (client_frame(TEXT, b"x" * (MAX_BYTES + 1)), ("violated", 1009)),
}


@pytest.mark.parametrize("parsed", [False, True], ids=["short frames only", "with a parser"])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize(("last", "ending"), ENDINGS.values(), ids=ENDINGS)
def test_nothing_is_heard_after_the_end(
    last: bytes, ending: Event, together: bool, parsed: bool
) -> None:
    before = [client_frame(PING, b"1")] if parsed else []
    after = [client_frame(opcode, b"{}") for opcode in (TEXT, PONG, PING)]
    after += [client_frame(CLOSE, b"\x03\xe9"), client_frame(TEXT, b"\xff")]
    frames = [*before, last, *after]
    pieces = [b"".join(frames)] if together else frames
    events = heard_by_inbox(pieces, compress=True)
    assert events == [("ping", b"1")] * parsed + [ending]


def test_a_text_that_comes_amid_another_is_not_heard() -> None:
    frames = [client_frame(TEXT, b"a", fin=False), client_frame(PONG), client_frame(TEXT, b"b")]
    assert heard_by_inbox(frames, compress=False) == [("pong", b""), ("violated", 1002)]


def test_short_frames_that_come_alone_need_no_parser() -> None:
    heard = Heard()
    inbox = Inbox(heard, MAX_BYTES, compress=True)
    for frame in (
        client_frame(TEXT, b"{}"),
        client_frame(PONG, b"x" * 125),
        client_frame(TEXT, "ü".encode()),
        client_frame(CLOSE, b"\x03\xe9"),
    ):
        inbox.feed(frame)
    assert [kind for kind, _ in heard.events] == ["text", "pong", "text", "closed"]
    assert inbox._parser is None


class Broken(Heard):
    """A listener that cannot serve what it hears."""

    def text(self, message: bytes) -> None:
        raise ZeroDivisionError

    def pong(self, payload: bytes) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("opcode", [TEXT, PONG])
def test_what_a_listener_raises_reaches_who_feeds(opcode: int) -> None:
    with pytest.raises(ZeroDivisionError):
        Inbox(Broken(), MAX_BYTES, compress=False).feed(client_frame(opcode))


def test_the_parser_outlives_what_a_listener_raises() -> None:
    """It would take the exception for one of its own, keep it, and hear nothing more."""
    broken = Broken()
    inbox = Inbox(broken, MAX_BYTES, compress=True)
    inbox.feed(client_frame(TEXT, squeezed(b"{}"), reserved=RSV1) + client_frame(PING, b"1"))
    inbox.feed(client_frame(CLOSE, (1011).to_bytes(2)))
    assert broken.events == [("failed", ZeroDivisionError), ("ping", b"1"), ("closed", 1011)]
