"""From a channel's messages to what each kind of socket is sent: shared, and compressed sparingly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import encodings, frames, protocol
from gateway.core.frames import MAX_BATCH_BYTES, PLAIN, Compression, Encoding
from publisher.contract.channels import parse_channel
from publisher.contract.message import Message
from tests.unit.fakes import logged
from tests.unit.wire import frames_in, messages_in, texts_in

PREFIX = protocol.data_prefix(parse_channel("news/today"))
THRESHOLD = 200
BATCH = Encoding(0, True)
SQUEEZED = Encoding(15, False)
SQUEEZED_BATCH = Encoding(15, True)
ALL = [Encoding(bits, batch) for bits in (0, *range(9, 16)) for batch in (False, True)]


def encode(
    prefix: bytes, messages: list[Message], kinds: list[Encoding], threshold: int
) -> dict[Encoding, bytes]:
    encoded = encodings.encode(prefix, messages, kinds, threshold, Compression())
    return {each: encoded[each] for each in kinds}


def series(*sizes: int) -> list[Message]:
    """Messages 1, 2, … whose data are strings of about these sizes."""
    return [
        logged(number, number - 1, json.dumps("x" * size).encode())
        for number, size in enumerate(sizes, 1)
    ]


def expected(messages: list[Message]) -> list[object]:
    return [json.loads(protocol.data(PREFIX, message)) for message in messages]


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[bytes, int]]:
    """How often each text was compressed for each window."""
    counted: Counter[tuple[bytes, int]] = Counter()
    deflated: Callable[[bytes, int], bytes] = frames.deflated

    def counting(payload: bytes, window_bits: int) -> bytes:
        counted[payload, window_bits] += 1
        return deflated(payload, window_bits)

    monkeypatch.setattr(frames, "deflated", counting)
    return counted


@pytest.mark.parametrize("encoding", ALL)
@pytest.mark.parametrize("sizes", [(1,), (1, 2, 3), (500,), (1, 500, 2), (500, 600)])
def test_every_encoding_holds_all_messages_in_order(
    encoding: Encoding, sizes: tuple[int, ...]
) -> None:
    messages = series(*sizes)
    data = encode(PREFIX, messages, [encoding], THRESHOLD)[encoding]
    assert messages_in(data, encoding.window_bits or 15) == expected(messages)


def test_a_plain_socket_gets_a_frame_for_each_message() -> None:
    data = encode(PREFIX, series(1, 500, 2), [PLAIN], THRESHOLD)[PLAIN]
    assert [frame.compressed for frame in frames_in(data)] == [False, False, False]


def test_only_what_is_over_the_threshold_is_compressed() -> None:
    messages = series(100, 500)
    size = len(protocol.data(PREFIX, messages[0]))
    for threshold, squeezed in ((size, False), (size - 1, True)):
        data = encode(PREFIX, messages, [SQUEEZED], threshold)[SQUEEZED]
        assert [frame.compressed for frame in frames_in(data)] == [squeezed, True]


def test_small_and_large_messages_each_go_their_way() -> None:
    data = encode(PREFIX, series(1, 500, 2), [SQUEEZED], THRESHOLD)[SQUEEZED]
    assert [frame.compressed for frame in frames_in(data)] == [False, True, False]


def test_small_messages_are_the_same_object_for_all_who_do_not_batch() -> None:
    encoded = encode(PREFIX, series(1, 2), [PLAIN, SQUEEZED, Encoding(9, False)], THRESHOLD)
    assert encoded[PLAIN] is encoded[SQUEEZED] is encoded[Encoding(9, False)]


def test_a_single_message_is_the_same_object_with_and_without_batching() -> None:
    encoded = encode(PREFIX, series(500), [PLAIN, BATCH, SQUEEZED, SQUEEZED_BATCH], THRESHOLD)
    assert encoded[PLAIN] is encoded[BATCH]
    assert encoded[SQUEEZED] is encoded[SQUEEZED_BATCH]
    assert encoded[PLAIN] is not encoded[SQUEEZED]


def test_each_message_is_compressed_once_for_a_window(
    compressions: Counter[tuple[bytes, int]],
) -> None:
    encode(PREFIX, series(500, 1, 600), [SQUEEZED, Encoding(9, False), PLAIN], THRESHOLD)
    assert len(compressions) == 4
    assert set(compressions.values()) == {1}


def test_a_single_message_is_compressed_once_for_batching_and_other_sockets_alike(
    compressions: Counter[tuple[bytes, int]],
) -> None:
    encode(PREFIX, series(500), [SQUEEZED, SQUEEZED_BATCH], THRESHOLD)
    assert list(compressions.values()) == [1]


def test_nothing_is_compressed_when_nobody_can_read_it(
    compressions: Counter[tuple[bytes, int]],
) -> None:
    encode(PREFIX, series(500, 600), [PLAIN, BATCH], THRESHOLD)
    assert not compressions


def test_what_compression_saves_is_counted_once_for_all_who_share_it() -> None:
    counted = Compression()
    messages = series(500, 1)
    encoded = encodings.encode(PREFIX, messages, ALL, THRESHOLD, counted)
    before = len(protocol.data(PREFIX, messages[0]))
    # Seven windows, and in each the message alone and the array of both.
    assert counted.before == 7 * (before + before + len(protocol.data(PREFIX, messages[1])) + 3)
    assert 0 < counted.after < sum(map(len, encoded.values()))


def test_each_message_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    data = protocol.data

    def counting(prefix: bytes, message: Message) -> bytes:
        rendered.append(message.id)
        return data(prefix, message)

    monkeypatch.setattr(protocol, "data", counting)
    encode(PREFIX, series(1, 500, 2), ALL, THRESHOLD)
    assert rendered == [1, 2, 3]


def test_a_batch_is_one_array_in_one_frame() -> None:
    messages = series(1, 2, 3)
    [text] = texts_in(encode(PREFIX, messages, [BATCH], THRESHOLD)[BATCH])
    assert json.loads(text) == expected(messages)


def test_a_single_message_is_no_array() -> None:
    [text] = texts_in(encode(PREFIX, series(1), [BATCH], THRESHOLD)[BATCH])
    assert isinstance(json.loads(text), dict)


def test_small_messages_that_are_large_together_are_compressed_together() -> None:
    data = encode(PREFIX, series(20, 20, 20, 20), [SQUEEZED_BATCH], THRESHOLD)[SQUEEZED_BATCH]
    assert [frame.compressed for frame in frames_in(data)] == [True]


def test_a_message_over_the_limit_of_a_batch_travels_alone_and_is_no_array() -> None:
    messages = series(10, MAX_BATCH_BYTES + 1, 10, 10)
    texts = texts_in(encode(PREFIX, messages, [BATCH], THRESHOLD)[BATCH])
    assert [type(json.loads(text)) for text in texts] == [dict, dict, list]


@settings(max_examples=40)
@given(st.lists(st.integers(1, MAX_BATCH_BYTES // 2), min_size=2, max_size=12))
def test_batches_hold_as_much_as_they_may_and_no_more(sizes: list[int]) -> None:
    messages = series(*sizes)
    texts = texts_in(encode(PREFIX, messages, [BATCH], THRESHOLD)[BATCH])
    assert [m for t in texts for m in _listed(t)] == expected(messages)
    for text in texts:
        # Brackets and commas are not counted.
        assert len(text) <= MAX_BATCH_BYTES + len(_listed(text)) + 1
    for text, following in pairwise(texts):
        first = len(json.dumps(_listed(following)[0], separators=(",", ":")))
        assert len(text) + len(",") + first > MAX_BATCH_BYTES, "another message had its place here"


def _listed(text: bytes) -> list[object]:
    value = json.loads(text)
    return value if isinstance(value, list) else [value]
