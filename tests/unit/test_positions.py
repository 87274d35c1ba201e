"""Where a client stands in several channels, in one short text."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import positions
from gateway.core.positions import LONGEST
from publisher.contract.message import MAX_ID

NAMES = ["notifications/u", "news/a", "news/b"]
POSITIONS = st.none() | st.integers(0, MAX_ID)


@given(st.lists(POSITIONS, min_size=2, max_size=40))
def test_positions_come_back_as_they_were(told: list[int | None]) -> None:
    names = [f"news/{number}" for number in range(len(told))]
    text = positions.Encoder(names).encode(told).decode()
    assert positions.decode(names, text) == told
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text


@given(st.integers(0, 200).flatmap(lambda n: st.lists(st.lists(POSITIONS, min_size=n, max_size=n))))
def test_what_is_written_after_other_positions_is_the_same(told: list[list[int | None]]) -> None:
    names = [f"news/{number}" for number in range(len(told[0]) if told else 0)]
    again = positions.Encoder(names)
    for each in told:
        assert again.encode(each) == positions.Encoder(names).encode(each)


@given(POSITIONS)
def test_of_one_channel_it_is_the_id(told: int | None) -> None:
    text = positions.Encoder(["news/a"]).encode([told]).decode()
    assert text == ("" if told is None else str(told))
    assert positions.decode(["news/a"], text) == [told]


def test_a_hundred_channels_of_the_last_days_have_room() -> None:
    names = [f"news/{number}" for number in range(100)]
    now = 1_800_000_000_000_000
    told: list[int | None] = [now - random.randrange(3 * 86_400 * 10**6) for _ in names]
    text = positions.Encoder(names).encode(told)
    assert len(text) <= LONGEST
    assert positions.decode(names, text.decode()) == told


def test_what_has_no_room_is_left_out() -> None:
    names = [f"news/{number}" for number in range(1_000)]
    told: list[int | None] = [random.randrange(MAX_ID) for _ in names]
    text = positions.Encoder(names).encode(told)
    assert len(text) <= LONGEST
    found = positions.decode(names, text.decode())
    known = next(number for number, each in enumerate(found) if each is None)
    assert known > 100
    assert found == told[:known] + [None] * (1_000 - known)


def test_positions_of_other_channels_are_none() -> None:
    text = positions.Encoder(NAMES).encode([1, 2, 3]).decode()
    for others in (NAMES[::-1], NAMES[:2], [*NAMES, "news/c"]):
        assert positions.decode(others, text) == [None] * len(others)


@pytest.mark.parametrize(
    "text", ["", "p", "p!", "5", "-1", "x" * 5_000, "p" + "A" * 2_000, "pé", "\ud800", "9" * 40]
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert positions.decode(NAMES, text) == [None, None, None]


@given(st.binary(max_size=100))
def test_what_clients_make_up_are_ids_or_none(octets: bytes) -> None:
    real = base64.urlsafe_b64decode(positions.Encoder(NAMES).encode([1, 2, 3])[1:] + b"==")[:4]
    text = "p" + base64.urlsafe_b64encode(real + octets).decode()
    assert all(each is None or 0 <= each <= MAX_ID for each in positions.decode(NAMES, text))


@pytest.mark.parametrize("names", [["a/1"], ["a/1", "b/2"], []])
def test_a_mark_changes_the_text_and_no_position(names: list[str]) -> None:
    told = [7 + number for number in range(len(names))]
    text = positions.Encoder(names).encode(told).decode()
    marked = positions.told_apart(text, text)
    assert marked != text
    assert positions.told_apart(text, marked) not in {text, marked}
    assert positions.decode(names, positions.told_apart(text, marked)) == told


@pytest.mark.parametrize(
    ("text", "before", "told"),
    [
        ("7", "6", "7"),
        ("7", "7.1", "7.2"),
        ("7", "7.x", "7.1"),
        ("7", "7." + "9" * 5_000, "7.1"),
        ("8", "7.3", "8"),
        ("", "", ".1"),
        ("", "6", ".1"),
        ("", ".1", ".2"),
    ],
)
def test_no_two_positions_of_answers_are_told_alike(text: str, before: str, told: str) -> None:
    assert positions.told_apart(text, before) == told
