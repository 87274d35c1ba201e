"""Frames on the wire, read back by an independent parser."""

from __future__ import annotations

import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import closing, frames
from tests.unit.wire import CLOSE, PING, PONG, TEXT, Frame, frames_in, inflate

BOUNDARIES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


@pytest.mark.parametrize("size", BOUNDARIES)
def test_a_text_message_is_one_frame_with_the_shortest_length(size: int) -> None:
    payload = b"x" * size
    assert frames_in(frames.text(payload)) == [Frame(TEXT, False, payload)]


@pytest.mark.parametrize(
    ("size", "head"), [(125, "817d"), (126, "817e007e"), (65_535, "817effff"),
                       (65_536, "817f0000000000010000")]
)  # fmt: skip
def test_the_head_of_a_frame_is_that_of_the_specification(size: int, head: str) -> None:
    frame = frames.text(b"x" * size)
    assert frame.removesuffix(b"x" * size).hex() == head


@pytest.mark.parametrize("size", [0, 1, 125])
def test_pings_and_pongs_carry_their_payload(size: int) -> None:
    payload = os.urandom(size)
    assert frames_in(frames.ping(payload)) == [Frame(PING, False, payload)]
    assert frames_in(frames.pong(payload)) == [Frame(PONG, False, payload)]


def test_a_close_frame_holds_code_and_reason() -> None:
    assert frames_in(frames.close(closing.PONG_TIMEOUT)) == [
        Frame(CLOSE, False, (3008).to_bytes(2) + b"pong_timeout")
    ]


def test_frames_one_after_the_other_are_read_one_after_the_other() -> None:
    stream = frames.text(b"a") + frames.ping(b"1") + frames.deflated(b"b" * 200, 15)
    assert [frame.opcode for frame in frames_in(stream)] == [TEXT, PING, TEXT]


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("size", [1, 2_000, 65_535, 65_536, 300_000])
def test_a_compressed_message_is_read_with_its_window(window_bits: int, size: int) -> None:
    payload = (b'{"type":"news","n":12345}' + os.urandom(64)) * (size // 89 + 1)
    [frame] = frames_in(frames.deflated(payload, window_bits))
    assert (frame.opcode, frame.compressed) == (TEXT, True)
    assert inflate(frame.payload, window_bits) == payload


def test_compression_leaves_out_the_tail_of_the_sync_flush() -> None:
    [frame] = frames_in(frames.deflated(b"hello " * 100, 15))
    assert not frame.payload.endswith(b"\x00\x00\xff\xff")


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(9, 15))
def test_compressed_messages_are_read_with_and_without_the_ones_before(
    payloads: list[bytes], window_bits: int
) -> None:
    remembering = zlib.decompressobj(-window_bits)
    for payload in payloads:
        [frame] = frames_in(frames.deflated(payload, window_bits))
        assert inflate(frame.payload, window_bits) == payload
        assert remembering.decompress(frame.payload + b"\x00\x00\xff\xff") == payload


def test_the_same_message_is_always_compressed_to_the_same_bytes() -> None:
    payload = b"again and " * 50
    frames.deflated(b"something else", 15)
    assert frames.deflated(payload, 15) == frames.deflated(payload, 15)
