"""What a client's bytes are, told without a parser: short frames, their payload, and where frames end."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core import frames
from gateway.core.frames import Boundaries
from tests.support.client_frames import PONG, TEXT, client_frame
from tests.unit.cutting import cut

SIZES = (0, 1, 3, 4, 5, 124, 125, 126, 127, 128, 200, 65_535, 65_536, 70_000)

masks = st.binary(min_size=4, max_size=4)
opcodes = st.integers(0, 15)
payloads = st.one_of(
    st.binary(max_size=300), st.sampled_from(SIZES).map(lambda size: b"\x81" * size)
)


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """A frame of any length, in whichever form of it, masked or not."""
    payload = draw(payloads)
    widths = [8] + [2] * (len(payload) < 65_536) + [0] * (len(payload) < 126)
    return client_frame(
        draw(opcodes),
        payload,
        mask=draw(st.none() | masks),
        fin=draw(st.booleans()),
        reserved=draw(st.integers(0, 7)) << 4,
        width=draw(st.sampled_from(widths)),
    )


@settings(max_examples=300)
@given(st.data())
def test_a_stream_is_at_rest_exactly_where_a_frame_ends(data: st.DataObject) -> None:
    parts = data.draw(st.lists(any_frame(), min_size=1, max_size=6))
    ends, position = {0}, 0
    for part in parts:
        position += len(part)
        ends.add(position)
    boundaries = Boundaries()
    assert boundaries.at_rest
    position = 0
    for piece in data.draw(cut(parts)):
        cut_again = boundaries.cut(piece)
        assert b"".join(cut_again) == piece
        for each in cut_again:
            begin, position = position, position + len(each)
            assert not any(begin < end < position for end in ends)
        assert boundaries.at_rest == (position in ends)


@settings(max_examples=100)
@given(st.lists(any_frame(), min_size=1, max_size=3).filter(lambda f: len(b"".join(f)) < 1_000))
def test_a_stream_that_trickles_in_is_at_rest_exactly_where_a_frame_ends(
    parts: list[bytes],
) -> None:
    boundaries = Boundaries()
    for part in parts:
        for number, octet in enumerate(part, 1):
            boundaries.cut(bytes([octet]))
            assert boundaries.at_rest == (number == len(part))


@settings(max_examples=300)
@given(opcodes, st.binary(max_size=125), masks)
@example(TEXT, b"", b"\x00\x00\x00\x00")
@example(TEXT, b"\x00" * 125, b"\xff\xff\xff\xff")
@example(PONG, b"\x00\x01", b"\x00\x01\x00\x00")
def test_the_payload_of_a_short_frame_is_that_of_the_specification(
    opcode: int, payload: bytes, mask: bytes
) -> None:
    frame = client_frame(opcode, payload, mask=mask)
    assert frames.is_short(frame)
    assert frames.unmasked(frame) == payload


@settings(max_examples=500)
@given(st.data())
def test_short_is_just_the_one_whole_masked_frame(data: st.DataObject) -> None:
    frame = data.draw(any_frame())
    following = data.draw(st.just(b"") | any_frame() | st.binary(max_size=20))
    taken = data.draw(st.integers(0, len(frame)) | st.just(len(frame)))
    part = frame[:taken] + (following if taken == len(frame) else b"")
    # Of a frame whose length stands in the second byte itself.
    short = bool(frame[1] & 0x80) and frame[1] & 0x7F < 126
    assert frames.is_short(part) == (short and part == frame)


def test_of_a_frame_cut_anywhere_or_followed_by_anything_only_the_whole_is_short() -> None:
    for size in range(130):
        frame = client_frame(TEXT, b"x" * size)
        for taken in range(len(frame)):
            assert not frames.is_short(frame[:taken])
        assert frames.is_short(frame) == (size <= 125)
        assert not frames.is_short(frame + b"x")
        assert not frames.is_short(frame + frame)
        assert not frames.is_short(client_frame(TEXT, b"x" * size, mask=None))


def test_a_longer_form_of_a_short_length_is_not_short() -> None:
    for width in (2, 8):
        for size in (0, 1, 119, 125):
            assert not frames.is_short(client_frame(TEXT, b"x" * size, width=width))
