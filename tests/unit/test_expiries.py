"""Keys by the moment they end, against a dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.timing import EXPIRY_STEP, Expiries

KEYS = st.sampled_from("abcde")
TIMES = st.integers(60, 140).map(lambda parts: parts * EXPIRY_STEP / 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("expect"), KEYS, TIMES),
        st.tuples(st.just("forget"), KEYS, st.just(0.0)),
        st.tuples(
            st.just("look"),
            st.just(""),
            st.integers(-12, 16).map(lambda parts: parts * EXPIRY_STEP / 4),
        ),
    ),
    max_size=80,
)


def _step_of(now: float) -> float:
    return floor(now / EXPIRY_STEP) * EXPIRY_STEP


@settings(max_examples=150)
@given(steps)
def test_keys_are_due_once_never_early_and_at_the_first_look_after_their_step(
    drawn: list[tuple[str, str, float]],
) -> None:
    now = looked = 5.0
    expiries: Expiries[str] = Expiries(now)
    expected: dict[str, float] = {}
    for step, key, value in drawn:
        match step:
            case "expect":
                expiries.expect(key, value)
                # What is past already is met by the next look in another step.
                expected[key] = max(value, _step_of(looked) + EXPIRY_STEP)
            case "forget":
                expiries.forget(key)
                expected.pop(key, None)
            case _:
                now += value  # the wall clock may be set back
                ended = {key for key, at in expected.items() if at <= _step_of(now)}
                assert sorted(expiries.due(now)) == sorted(ended)
                looked = now
                for each in ended:
                    del expected[each]


def test_what_is_expected_later_replaces_what_was_expected_before() -> None:
    expiries: Expiries[str] = Expiries(0)
    expiries.expect("a", 5)
    expiries.expect("a", 9)
    assert expiries.due(8) == []
    assert expiries.due(9) == ["a"]
    assert expiries.due(100) == []


def test_what_is_past_already_is_due_at_the_next_look() -> None:
    expiries: Expiries[str] = Expiries(100.5)
    expiries.expect("a", 3)
    assert expiries.due(101.0) == ["a"]


def test_forgetting_what_is_unknown_is_no_error() -> None:
    expiries: Expiries[str] = Expiries(0)
    expiries.forget("a")
    assert expiries.due(10) == []


def test_nothing_is_kept_of_what_has_ended_or_was_forgotten() -> None:
    expiries: Expiries[int] = Expiries(0)
    for key in range(100):
        expiries.expect(key, key % 7 + 1)
    for key in range(0, 100, 2):
        expiries.forget(key)
    expiries.due(50)
    assert not expiries._ending
    assert not expiries._step_of


def test_a_look_costs_what_has_ended_and_not_what_is_expected() -> None:
    expiries: Expiries[int] = Expiries(0)
    for key in range(100):
        expiries.expect(key, 1_000 + key)
    expiries._ending = waiting = _Counted(expiries._ending)
    looks = 400  # a hundred seconds
    for number in range(looks):
        expiries.due(number * EXPIRY_STEP)
    assert waiting.walked == 0
    assert waiting.asked <= looks


class _Counted(dict[int, set[int]]):
    walked = 0
    asked = 0

    def __iter__(self) -> Iterator[int]:
        self.walked += 1
        return super().__iter__()

    def pop(self, key: int, default: object = None) -> Any:
        self.asked += 1
        return super().pop(key, default)
