"""A client's stream is heard as it was said, and judged as the parser alone would judge it, however it is cut."""

from __future__ import annotations

import gc
import logging
import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER
from websockets.protocol import Protocol as Parser

from gateway.core.budget import BYTE, FRAME, MESSAGE, arrived, message
from gateway.web import incoming_frames
from gateway.web.incoming_frames import BYTES_PER_TURN, FRAMES_PER_TURN, Inbox
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
    finished,
    squeezed,
)
from tests.unit.cutting import cut

MAX_BYTES = 400

Event = tuple[str, Any]


class Heard:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def arrived(self, cost: float) -> bool:
        return True

    def text(self, message: bytes, paid: float = 0.0) -> None:
        self.events.append(("text", message))

    def binary(self, message: bytes) -> None:
        self.events.append(("binary", message))

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


class Measuring(Heard):
    """Writes down how long binary messages are, and keeps none."""

    def binary(self, message: bytes) -> None:
        self.events.append(("binary", len(message)))


def heard_by_inbox(pieces: list[bytes], *, compress: bool) -> list[Event]:
    heard = Heard()
    inbox = Inbox(heard, MAX_BYTES, compress=compress)
    for piece in pieces:
        feed(inbox, piece)
    return heard.events


def feed(inbox: Inbox, data: bytes) -> int:
    """Feed all of it, turn by turn; returns how many turns it took."""
    turns = 1
    while left := inbox.feed(data):
        data = data[-left:]
        turns += 1
    return turns


def heard_by_the_parser(stream: bytes, *, compress: bool) -> list[Event]:
    """What the library's parser alone makes of the whole stream, up to the end of the conversation."""
    parser = Parser(SERVER, max_size=MAX_BYTES)
    if compress:
        parser.extensions = [PerMessageDeflate(True, True, 15, 15)]
    parser.receive_data(stream)
    events: list[Event] = []
    message: list[bytes] = []
    kind = Opcode.TEXT
    for frame in parser.events_received():
        assert isinstance(frame, Frame)
        payload = bytes(frame.data)
        if frame.opcode is Opcode.CLOSE:
            assert parser.close_rcvd is not None
            return [*events, ("closed", parser.close_rcvd.code)]
        if frame.opcode in {Opcode.PING, Opcode.PONG}:
            events.append((frame.opcode.name.lower(), payload))
            continue
        kind = kind if frame.opcode is Opcode.CONT else frame.opcode
        message.append(payload)
        if frame.fin:
            text = b"".join(message)
            message.clear()
            if kind is Opcode.TEXT and not _is_utf8(text):
                return [*events, ("violated", 1007)]
            events.append(("text" if kind is Opcode.TEXT else "binary", text))
    if parser.close_rcvd is not None:
        # It came amid a message, where a control frame may stand (RFC 6455 §5.4); the parser is stricter.
        events.append(("closed", parser.close_rcvd.code))
    elif parser.parser_exc is not None:
        # It inflates a frame before it sees that no message may begin here, so what it says first may differ.
        amid_a_message = parser.current_size is not None
        assume(not (compress and amid_a_message and isinstance(parser.parser_exc, PayloadTooBig)))
        assert parser.close_sent is not None
        events.append(("violated", parser.close_sent.code))
    return events


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


# -- what clients send ------------------------------------------------------------------------

Said = list[tuple[bytes, Event | None]]
"""Frames, each with what is heard when it ends."""

masks = st.binary(min_size=4, max_size=4)
# Close to the limit the parser is stricter than it must be: it counts a ping amid the fragments as if it were one.
said = st.one_of(
    st.text(max_size=30), st.integers(100, MAX_BYTES - 130).map(lambda n: "x" * n)
).map(str.encode)
small = st.binary(max_size=20)


@st.composite
def whole(draw: st.DrawFn) -> Said:
    """A message or a control frame in one frame."""
    opcode, payload, event = draw(
        st.one_of(
            said.map(lambda text: (TEXT, text, ("text", text))),
            small.map(lambda payload: (PONG, payload, ("pong", payload))),
            small.map(lambda payload: (PING, payload, ("ping", payload))),
            small.map(lambda payload: (BINARY, payload, ("binary", payload))),
        )
    )
    return [(client_frame(opcode, payload, mask=draw(masks)), event)]


@st.composite
def fragmented(draw: st.DrawFn) -> Said:
    """A text or a binary message in fragments, compressed or not, with pings and pongs between them."""
    text, rsv1, kind = draw(said), draw(st.booleans()), draw(st.sampled_from([TEXT, BINARY]))
    payload = squeezed(text) if rsv1 else text
    places = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=3)))
    parts = [payload[a:b] for a, b in zip([0, *places], [*places, len(payload)], strict=True)]
    frames: Said = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        frame = client_frame(
            CONTINUATION if number else kind,
            part,
            mask=draw(masks),
            fin=last,
            reserved=RSV1 if rsv1 and not number else 0,
        )
        event = ("text" if kind == TEXT else "binary", text)
        frames.append((frame, event if last else None))
        if draw(st.booleans()):
            opcode, name = draw(st.sampled_from([(PING, "ping"), (PONG, "pong")]))
            control = draw(small)
            frames.append((client_frame(opcode, control), (name, control)))
    return frames


compressed = said.map(
    lambda text: [(client_frame(TEXT, squeezed(text), reserved=RSV1), ("text", text))]
)


@st.composite
def disguised(draw: st.DrawFn) -> Said:
    """A frame whose payload looks like a frame, and may come alone."""
    inner = client_frame(
        draw(st.sampled_from([TEXT, PONG, CLOSE])), draw(st.sampled_from([b"", b"x"]))
    )
    opcode, event = draw(st.sampled_from([(BINARY, ("binary", inner)), (PING, ("ping", inner))]))
    frame = client_frame(opcode, inner, mask=bytes(4))
    return [(frame.removesuffix(inner), None), (inner, event)]


conversation = st.lists(whole() | fragmented() | compressed | disguised(), max_size=6)


closing = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.tuples(
        st.sampled_from([999, 1000, 1001, 1004, 1005, 1007, 1011, 1016, 2999, 3000, 4999, 65_535]),
        st.sampled_from([b"", b"bye", b"\xff", "träge".encode()]),
    ).map(lambda each: each[0].to_bytes(2) + each[1]),
)
close = st.builds(lambda payload: [client_frame(CLOSE, payload)], closing)
too_much = st.integers(MAX_BYTES + 1, MAX_BYTES + 5).map(lambda n: [client_frame(TEXT, b"x" * n)])


@st.composite
def wrong(draw: st.DrawFn) -> list[bytes]:
    """A frame of which anything may be wrong."""
    payload = draw(st.binary(max_size=140))
    mask = draw(st.none() | masks)
    opcode = draw(st.integers(0, 15))
    reserved = draw(st.sampled_from([0, 0, 0, *range(16, 128, 16)]))
    if opcode in {TEXT, BINARY}:
        # What does not inflate has tests of its own: the parser would say so at the first fragment.
        reserved &= ~RSV1
    return [
        client_frame(
            opcode,
            payload,
            mask=mask,
            fin=draw(st.booleans()),
            reserved=reserved,
            width=draw(st.sampled_from([None, 2, 8])),
        )
    ]


unfinished = st.builds(lambda text: [client_frame(TEXT, text, fin=False)], said)
not_utf8 = st.binary(min_size=1, max_size=9).map(lambda data: [client_frame(TEXT, data + b"\xff")])
end = st.lists(close | wrong() | not_utf8 | unfinished | too_much, max_size=2)


@settings(max_examples=500)
@given(st.data(), conversation)
def test_all_that_is_said_is_heard_in_order_however_it_is_cut(
    data: st.DataObject, parts: list[Said]
) -> None:
    said = [frame for part in parts for frame in part]
    pieces = data.draw(cut([frame for frame, _ in said]))
    assert heard_by_inbox(pieces, compress=True) == [event for _, event in said if event]


@settings(max_examples=500)
@given(st.data(), conversation, end, conversation, st.sampled_from([True, True, False]))
def test_whatever_comes_is_judged_as_the_parser_alone_judges_it(
    data: st.DataObject,
    before: list[Said],
    odd: list[list[bytes]],
    after: list[Said],
    compress: bool,
) -> None:
    frames = [frame for part in before for frame, _ in part]
    frames += [frame for part in odd for frame in part]
    frames += [frame for part in after for frame, _ in part]
    expected = heard_by_the_parser(b"".join(frames), compress=compress)
    event(str(expected[-1][0]) if expected else "nothing")
    assert heard_by_inbox(data.draw(cut(frames)), compress=compress) == expected
    # As clients do: each frame alone.
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
    "a compressed text that ends too often": (
        client_frame(TEXT, finished(b"") * 100, reserved=RSV1),
        ("violated", 1007),
    ),
    "a close amid a message": (
        client_frame(TEXT, b"{", fin=False) + client_frame(CLOSE, b"\x0f\xa1"),
        ("closed", 4001),
    ),
    "a second fragment that is marked as compressed": (
        client_frame(TEXT, b"{", fin=False) + client_frame(CONTINUATION, b"}", reserved=RSV1),
        ("violated", 1002),
    ),
    "a ping that is marked as compressed": (
        client_frame(PING, b"1", reserved=RSV1),
        ("violated", 1002),
    ),
    "a frame without a mask": (client_frame(TEXT, b"a", mask=None), ("violated", 1002)),
    "reserved bits": (client_frame(TEXT, b"a", reserved=RSV2), ("violated", 1002)),
    "too much": (client_frame(TEXT, b"x" * (MAX_BYTES + 1)), ("violated", 1009)),
    "too much, compressed": (
        client_frame(TEXT, squeezed(b"x" * (MAX_BYTES + 1)), reserved=RSV1),
        ("violated", 1009),
    ),
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


def test_a_compressed_text_is_refused_where_compression_was_not_agreed_on() -> None:
    frame = client_frame(TEXT, squeezed(b"{}"), reserved=RSV1)
    assert heard_by_inbox([frame], compress=False) == [("violated", 1002)]


def test_messages_after_one_whose_deflate_stream_has_ended_are_heard() -> None:
    """A client may compress so (RFC 7692 §7.2.3.4): the message is followed by an empty block."""
    frames = [client_frame(TEXT, finished(text) + b"\0", reserved=RSV1) for text in (b"1", b"2")]
    frames.append(client_frame(TEXT, squeezed(b"3"), reserved=RSV1))
    expected = [("text", b"1"), ("text", b"2"), ("text", b"3")]
    assert heard_by_inbox(frames, compress=True) == expected
    assert heard_by_inbox([b"".join(frames)], compress=True) == expected


def test_a_message_that_rests_on_the_one_before_it_breaks_the_agreement() -> None:
    """``client_no_context_takeover`` is always agreed on (RFC 7692 §7.1.1.2): nothing is kept between messages."""
    compressor = zlib.compressobj(wbits=-15)
    text = bytes(range(65, 91)) * 3
    payloads = [
        (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(3)
    ]
    assert len(payloads[2]) < len(payloads[0]) / 2
    frames = [
        client_frame(opcode, payload, reserved=RSV1)
        for opcode, payload in zip((TEXT, BINARY, TEXT), payloads, strict=True)
    ]
    assert heard_by_inbox(frames, compress=True) == [("text", text), ("violated", 1007)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    "part", [b"\0\0\0\xff\xff" * 10, b"x" * 50], ids=["empty blocks", "anything"]
)
def test_fragments_are_too_much_whatever_they_inflate_to(opcode: int, part: bytes) -> None:
    """Nothing that a client sends is kept, or worked on, beyond the limit."""
    fragment = client_frame(CONTINUATION, part, fin=False)
    frames = [client_frame(opcode, finished(b"{}"), fin=False, reserved=RSV1), *[fragment] * 10]
    assert heard_by_inbox(frames, compress=True) == [("violated", 1009)]


def test_a_message_is_heard_before_the_next_one_is_inflated() -> None:
    """What a client costs is judged message by message, and only one of them is held inflated."""
    limit = 2**18
    frame = client_frame(BINARY, squeezed(bytes(limit)), reserved=RSV1)
    heard = Measuring()
    inbox = Inbox(heard, limit, compress=True)
    inbox.feed(frame)
    tracemalloc.start()
    try:
        feed(inbox, frame * 50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.events == [("binary", limit)] * 51
    assert peak < 4 * limit


def test_the_log_has_nothing_of_what_a_client_says(caplog: pytest.LogCaptureFixture) -> None:
    """It may be a token that is refreshed: the parser would log each frame at the level of debugging."""
    caplog.set_level(logging.DEBUG)
    refresh = b'{"type":"refresh","token":"secret"}'
    events = heard_by_inbox([client_frame(PING, b"1") + client_frame(TEXT, refresh)], compress=True)
    assert events == [("ping", b"1"), ("text", refresh)]
    assert caplog.records == []


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

    def text(self, message: bytes, paid: float = 0.0) -> None:
        raise ZeroDivisionError

    def pong(self, payload: bytes) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("opcode", [TEXT, PONG])
def test_what_a_listener_raises_is_told_to_it(opcode: int) -> None:
    broken = Broken()
    assert Inbox(broken, MAX_BYTES, compress=False).feed(client_frame(opcode)) == 0
    assert broken.events == [("failed", ZeroDivisionError)]


def test_the_parser_outlives_what_a_listener_raises() -> None:
    """It would take the exception for one of its own, keep it, and hear nothing more."""
    broken = Broken()
    inbox = Inbox(broken, MAX_BYTES, compress=True)
    inbox.feed(client_frame(TEXT, squeezed(b"{}"), reserved=RSV1) + client_frame(PING, b"1"))
    inbox.feed(client_frame(CLOSE, (1011).to_bytes(2)))
    assert broken.events == [("failed", ZeroDivisionError), ("ping", b"1"), ("closed", 1011)]


def test_a_message_in_fragments_is_not_copied_with_each_of_them() -> None:
    """Of 256 KiB in single bytes the event loop would copy 32 GiB."""
    heard = Heard()
    inbox = Inbox(heard, 2000, compress=False)
    inbox.feed(client_frame(TEXT, b"", fin=False))
    collected = inbox._so_far
    feed(inbox, client_frame(CONTINUATION, b"x", fin=False) * 1000)
    assert inbox._so_far is collected
    inbox.feed(client_frame(CONTINUATION, b"x"))
    assert heard.events == [("text", b"x" * 1001)]
    assert inbox._so_far is None


LONG = client_frame(TEXT, b"x" * 2**18)


def flood(inbox: Inbox) -> None:
    feed(inbox, LONG)


def leave_amid_a_frame(inbox: Inbox) -> None:
    feed(inbox, LONG[:-1])
    inbox.release()


def break_the_protocol(inbox: Inbox) -> None:
    feed(inbox, LONG + client_frame(PING, reserved=RSV2))


def leave_after_a_parser(inbox: Inbox) -> None:
    feed(inbox, LONG + client_frame(CLOSE, b"\x03\xe8"))


@pytest.mark.parametrize(
    "act", [flood, leave_amid_a_frame, break_the_protocol, leave_after_a_parser]
)
def test_nothing_is_kept_of_what_was_heard(act: Callable[[Inbox], None]) -> None:
    """Clients that flood and come again held hundreds of MiB, in parsers that waited to be collected."""
    inboxes = [Inbox(Forgetful(), 2**18, compress=False) for _ in range(10)]
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for inbox in inboxes:
            act(inbox)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < len(LONG)


class Forgetful(Heard):
    """Hears, and keeps nothing."""

    def text(self, message: bytes, paid: float = 0.0) -> None:
        pass


# -- what it costs ----------------------------------------------------------------------------


class Charged(Heard):
    """A listener that pays until its ``tokens`` are used up, and notes for what a message was charged then."""

    def __init__(self, tokens: float = math.inf) -> None:
        super().__init__()
        self.tokens = tokens
        self.paid: list[float] = []

    def arrived(self, cost: float) -> bool:
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def text(self, message: bytes, paid: float = 0.0) -> None:
        super().text(message)
        self.paid.append(paid)


EMPTY = client_frame(CONTINUATION, b"", fin=False)


def test_a_frame_is_paid_for_before_it_is_parsed() -> None:
    charged = Charged(tokens=10 * arrived(len(EMPTY), ends_frame=True))
    inbox = Inbox(charged, MAX_BYTES, compress=True)
    with pytest.MonkeyPatch.context() as patch:
        parsed = counted(patch, Parser, "receive_data")
        feed(inbox, client_frame(TEXT, b"", fin=False) + EMPTY * 1_000)
    assert len(parsed) == 10
    # Nothing is heard afterwards.
    inbox.feed(client_frame(PING))
    assert charged.events == []


def counted(patch: pytest.MonkeyPatch, owner: type, name: str) -> list[Any]:
    """The calls of a method."""
    calls: list[Any] = []
    method = getattr(owner, name)

    def count(self: Any, *arguments: Any) -> Any:
        calls.append(arguments)
        return method(self, *arguments)

    patch.setattr(owner, name, count)
    return calls


def test_few_frames_and_bytes_are_taken_in_a_turn() -> None:
    inbox = Inbox(Heard(), 2**18, compress=False)
    inbox.feed(client_frame(TEXT, b"", fin=False))
    assert inbox.feed(EMPTY * 43_000) >= len(EMPTY) * (43_000 - FRAMES_PER_TURN)
    long = client_frame(TEXT, b"x" * 2**18)
    assert Inbox(Heard(), 2**18, compress=False).feed(long) >= len(long) - BYTES_PER_TURN


@settings(max_examples=200)
@given(st.data(), conversation, st.integers(1, 3), st.integers(1, 40))
def test_all_is_heard_in_order_however_little_is_taken_in_a_turn(
    data: st.DataObject, parts: list[Said], most_frames: int, most_bytes: int
) -> None:
    said = [frame for part in parts for frame, _ in part]
    expected = [event for part in parts for _, event in part if event]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incoming_frames, "FRAMES_PER_TURN", most_frames)
        patch.setattr(incoming_frames, "BYTES_PER_TURN", most_bytes)
        assert heard_by_inbox(data.draw(cut(said)), compress=True) == expected


def test_bytes_are_paid_for_as_received_and_as_inflated_and_count_towards_the_message() -> None:
    text = b"x" * 10_000
    frame = client_frame(TEXT, squeezed(text), reserved=RSV1)
    charged = Charged()
    Inbox(charged, 2**18, compress=True).feed(frame * 2)
    each = arrived(len(frame), ends_frame=True) + len(text) * BYTE
    assert charged.paid == [pytest.approx(each)] * 2


@pytest.mark.parametrize("size", [16_384, 4_096, 1_400])
def test_the_largest_message_at_the_documented_rate_costs_no_more_than_a_short_one(
    size: int,
) -> None:
    """However browsers, libraries and the network cut it: whole, in fragments, in segments."""
    text = b"x" * 16_384
    parts = [text[at : at + 4_096] for at in range(0, len(text), 4_096)]
    fragments = [
        client_frame(CONTINUATION if number else TEXT, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    for stream in (client_frame(TEXT, text), b"".join(fragments)):
        charged = Charged()
        inbox = Inbox(charged, 2**18, compress=False)
        for at in range(0, len(stream), size):
            feed(inbox, stream[at : at + size])
        assert message(charged.paid[0]) + charged.paid[0] == MESSAGE


@pytest.mark.parametrize("size", [1, 2, 100, 511])
def test_a_frame_that_comes_in_tiny_pieces_costs_as_much_as_so_many_frames(size: int) -> None:
    """Each piece is read and parsed by itself."""
    stream = client_frame(TEXT, b"x" * 2_000)
    charged = Charged()
    inbox = Inbox(charged, 2**18, compress=False)
    pieces = range(0, len(stream), size)
    for at in pieces:
        feed(inbox, stream[at : at + size])
    assert charged.paid == [pytest.approx(len(pieces) * FRAME + len(stream) * BYTE)]
