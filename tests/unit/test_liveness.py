"""The wheel of pings. An interval of 60 makes a tick one second, and all sums exact."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from itertools import pairwise
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.timing import Liveness

INTERVAL, TIMEOUT = 60.0, 30.0
STEP = 0.25


def turn_until(
    wheel: Liveness[str], start: float, end: float, *, answering: bool = True
) -> tuple[dict[str, list[float]], list[tuple[float, str]]]:
    """Sweep every ``STEP`` from ``start`` to ``end``: when each was pinged, and who expired when."""
    pinged: dict[str, list[float]] = defaultdict(list)
    expired: list[tuple[float, str]] = []
    now = start
    while now < end:
        now += STEP
        due = wheel.due(now)
        expired += [(now, key) for key in due.expired]
        for key in due.ping:
            pinged[key].append(now)
            if answering:
                wheel.heard(key, now)
    return pinged, expired


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=1, max_size=20))
def test_everybody_is_pinged_exactly_once_an_interval(arrivals: list[tuple[int, float]]) -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    pinged: dict[str, list[float]] = defaultdict(list)
    now = 0.0
    for number, (at, place) in enumerate(sorted(arrivals)):
        for key, times in turn_until(wheel, now, at / 4)[0].items():
            pinged[key] += times
        now = max(now, at / 4)
        wheel.add(str(number), now, place)
    for key, times in turn_until(wheel, now, now + 4 * INTERVAL)[0].items():
        pinged[key] += times
    for number, (at, place) in enumerate(sorted(arrivals)):
        times = pinged[str(number)]
        assert abs(times[0] - (at / 4 + place * INTERVAL)) <= 1 + STEP
        assert {later - earlier for earlier, later in pairwise(times)} == {INTERVAL}


def test_the_first_pings_of_a_crowd_are_spread_evenly_over_the_interval() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    for number in range(600):
        wheel.add(str(number), 0, number / 600)
    pinged, _ = turn_until(wheel, 0, INTERVAL)
    assert set(Counter(times[0] for times in pinged.values()).values()) == {10}


@pytest.mark.parametrize("place", [0.0, 0.999999, 1.0])
def test_the_ends_of_the_interval_are_places_too(place: float) -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, place)
    pinged, _ = turn_until(wheel, 0, INTERVAL)
    assert len(pinged["a"]) == 1


def test_sweeps_at_odd_moments_skip_nobody() -> None:
    wheel: Liveness[str] = Liveness(30.0, TIMEOUT, 17.3)
    for number in range(100):
        wheel.add(str(number), 17.3, number / 100)
    pinged: Counter[str] = Counter()
    now = 17.3
    for step in (0.07, 0.49, 0.5, 0.51, 0.93) * 100:  # 250 seconds
        now += step
        pinged.update(wheel.due(now).ping)
    assert set(pinged.values()) <= {8, 9}
    assert len(pinged) == 100


def test_who_says_nothing_expires_when_the_time_for_its_pong_is_over() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    pinged, expired = turn_until(wheel, 0, INTERVAL, answering=False)
    assert expired == [(pinged["a"][0] + TIMEOUT, "a")]


def test_a_pong_heard_before_the_ping_is_no_answer_to_it() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0.5)
    turn_until(wheel, 0, 30)
    wheel.heard("a", 30)
    _, expired = turn_until(wheel, 30, 62, answering=False)
    assert [key for _, key in expired] == ["a"]


def test_a_pong_that_answers_a_later_ping_answers_the_earlier_too() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, 100.0, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 70, answering=False)  # pinged at 1 and at 61
    wheel.heard("a", 70)
    _, expired = turn_until(wheel, 70, 150, answering=False)
    assert expired == []


def test_who_is_given_more_time_expires_once_that_is_over_whatever_it_was_asked_before() -> None:
    wheel: Liveness[str] = Liveness(10.0, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    _, expired = turn_until(wheel, 0, 31, answering=False)
    assert len(expired) == 1
    wheel.prolong("a", 31)  # three more pings are out
    assert turn_until(wheel, 31, 31 + TIMEOUT - STEP, answering=False)[1] == []
    _, expired = turn_until(wheel, 31 + TIMEOUT - STEP, 31 + TIMEOUT, answering=False)
    assert [key for _, key in expired][:1] == ["a"]


def test_who_was_given_more_time_and_answers_is_judged_by_the_next_ping() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 31, answering=False)  # pinged at 1
    wheel.prolong("a", 31)
    wheel.heard("a", 50)
    _, expired = turn_until(wheel, 31, 100, answering=False)  # pinged at 61
    assert expired == [(61 + TIMEOUT, "a")]


def test_who_was_removed_after_it_was_given_more_time_leaves_nothing() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    wheel.prolong("a", 1)
    wheel.remove("a")
    wheel.prolong("a", 2)
    assert turn_until(wheel, 2, 100, answering=False) == ({}, [])
    assert not wheel._prolonged


@pytest.mark.parametrize("left_at", [0.5, 1.5, 30.0])
def test_who_was_removed_is_neither_pinged_nor_expired(left_at: float) -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, left_at, answering=False)
    wheel.remove("a")
    pinged, expired = turn_until(wheel, left_at, 3 * INTERVAL, answering=False)
    assert not pinged
    assert not expired


def test_who_came_back_owes_nothing_for_the_time_before() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 10, answering=False)
    wheel.remove("a")
    wheel.add("a", 10, 0.9)
    _, expired = turn_until(wheel, 10, 60, answering=False)
    assert expired == []


def test_a_pong_of_somebody_unknown_is_no_error_and_leaves_nothing() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.heard("a", 1)
    wheel.remove("a")
    assert turn_until(wheel, 0, INTERVAL) == ({}, [])


@settings(max_examples=40)
@given(st.floats(2.5, 1_000), st.floats(0, 57))
def test_when_the_process_stood_still_nobody_expires_at_once_and_nobody_is_pinged_twice(
    stall: float, before: float
) -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, 60.0, 0)
    for number in range(60):
        wheel.add(str(number), 0, number / 60)
    pinged, _ = turn_until(wheel, 0, before, answering=False)
    now = before - before % STEP + STEP + stall
    due = wheel.due(now)
    assert due.expired == []
    assert max(Counter(due.ping).values()) == 1
    if stall >= INTERVAL:
        assert len(due.ping) == 60
    # Who then still says nothing does expire, and not later than the stall explains.
    _, expired = turn_until(wheel, now, now + 61, answering=False)
    assert {key for _, key in expired} >= set(pinged)


def test_pongs_that_waited_through_a_stall_are_in_time() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 2, answering=False)
    assert wheel.due(500).expired == []
    wheel.heard("a", 500.001)
    _, expired = turn_until(wheel, 500.25, 529, answering=False)
    assert expired == []


def test_a_short_stall_counts_too() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, 3.0, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 3.75, answering=False)  # pinged at 1, to be answered by 4
    assert wheel.due(6.0).expired == []


def test_a_deadline_near_the_beginning_of_a_stall_waits_for_its_end_too() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    wheel.add("a", 0, 0)
    turn_until(wheel, 0, 30.5, answering=False)  # pinged at 1, to be answered by 31
    assert wheel.due(500).expired == []


def test_after_a_stall_everybody_is_pinged_once_an_interval_again() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    for number in range(60):
        wheel.add(str(number), 0, number / 60)
    wheel.due(777.0)
    pinged, _ = turn_until(wheel, 777.0, 777.0 + 3 * INTERVAL)
    assert {len(times) for times in pinged.values()} == {3}
    assert len(pinged) == 60


def test_a_stall_costs_nothing_for_each_ping_that_is_awaited() -> None:
    wheel: Liveness[str] = Liveness(INTERVAL, TIMEOUT, 0)
    for number in range(600):
        wheel.add(str(number), 0, number / 600)
    turn_until(wheel, 0, 20, answering=False)

    class Unwalked(deque[Any]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("what is not due yet was looked at")

    wheel._awaited = Unwalked(wheel._awaited)
    assert len(wheel._awaited) == 20
    assert wheel.due(500).expired == []
    _, expired = turn_until(wheel, 500, 500 + TIMEOUT - 1, answering=False)
    # Those pinged in the first 19 seconds have had their time, which the stall is no part of.
    assert len(expired) == 190


KEYS = st.sampled_from("abcd")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("sweep"), st.sampled_from([0.03125, 0.125, 0.21875])),
        st.tuples(st.just("sweep"), st.just(0.21875)),
        st.tuples(st.just("heard"), KEYS),
        st.tuples(st.just("add"), st.tuples(KEYS, st.floats(0, 1))),
        st.tuples(st.just("remove"), KEYS),
    ),
    min_size=60,
    max_size=150,
)


@settings(max_examples=40)
@given(steps)
def test_overdue_is_who_was_pinged_and_not_heard_since(drawn: list[tuple[str, object]]) -> None:
    interval, timeout = 7.5, 2.0  # a tick is an eighth of a second
    wheel: Liveness[str] = Liveness(interval, timeout, 0)
    heard: dict[str, float] = {}
    awaited: list[tuple[float, str]] = []
    now = 0.0
    for step, value in drawn:
        match step, value:
            case "sweep", float(wait):
                now += wait  # no longer than what counts as standing still
                due = wheel.due(now)
                over = [(at, key) for at, key in awaited if at + timeout <= now]
                assert sorted(due.expired) == sorted(
                    key for at, key in over if key in heard and heard[key] < at
                )
                awaited = [each for each in awaited if each not in over]
                assert all(key in heard for key in due.ping)
                awaited += [(now, key) for key in due.ping]
                now += 2**-10  # a pong comes after its ping
            case "heard", str(key):
                wheel.heard(key, now)
                if key in heard:
                    heard[key] = now
            case "add", (str(key), float(place)) if key not in heard:
                wheel.add(key, now, place)
                heard[key] = now
            case "remove", str(key):
                wheel.remove(key)
                heard.pop(key, None)
