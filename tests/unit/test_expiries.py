"""Keys by the moment they end, against a dictionary."""

from __future__ import annotations

from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.timing import Expiries

KEYS = st.sampled_from("abcde")
TIMES = st.integers(60, 140).map(lambda quarters: quarters / 4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("expect"), KEYS, TIMES),
        st.tuples(st.just("forget"), KEYS, st.just(0.0)),
        st.tuples(
            st.just("look"), st.just(""), st.integers(-12, 16).map(lambda quarters: quarters / 4)
        ),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_keys_are_due_once_never_early_and_at_the_first_look_after_their_second(
    drawn: list[tuple[str, str, float]],
) -> None:
    now = looked = 20.0
    expiries: Expiries[str] = Expiries(now)
    expected: dict[str, float] = {}
    for step, key, value in drawn:
        match step:
            case "expect":
                expiries.expect(key, value)
                # What is past already is met by the next look in another second.
                expected[key] = max(value, floor(looked) + 1)
            case "forget":
                expiries.forget(key)
                expected.pop(key, None)
            case _:
                now += value  # the wall clock may be set back
                ended = {key for key, at in expected.items() if at <= floor(now)}
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
    assert not expiries._second_of
