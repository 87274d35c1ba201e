"""What a connection may cost: never more than its budget, and ordinary clients never notice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import budget
from gateway.core.budget import Budget, arrived, message

RATE, BURST, SUBSCRIPTIONS = 100.0, 1_000.0, 100
"""The defaults of the settings."""


def make(rate: float = RATE, burst: float = BURST) -> Budget:
    return Budget(rate, burst, SUBSCRIPTIONS, 0.0)


# What is done, for how much, and after how long.
steps = st.lists(
    st.tuples(st.sampled_from(["take", "owe", "settle"]), st.integers(0, 64), st.integers(0, 64)),
    max_size=60,
)


@settings(max_examples=500)
@given(steps, st.integers(1, 8), st.integers(2, 16))
def test_no_more_is_spent_than_burst_and_rate_allow(
    sequence: list[tuple[str, int, int]], rate: int, burst: int
) -> None:
    """Taken or owed, in whatever order. What is owed and not paid yet is what nobody goes on with."""
    spender = make(rate, burst)
    now = spent = owed = 0.0
    for step, amount, wait in sequence:
        now += wait / 64
        cost = amount / 4
        if step == "take" and spender.take(cost, now):
            spent += cost
        elif step == "owe":
            spender.owe(cost)
            owed += cost
        elif step == "settle" and not spender.settle(now):
            spent, owed = spent + owed, 0.0
        assert spent <= burst + rate * now + 1e-6


@settings(max_examples=200)
@given(st.integers(0, 100_000), st.integers(1, 8), st.integers(2, 16))
def test_what_is_owed_never_takes_what_a_client_needs_to_go_on_talking(
    owed: int, rate: int, burst: int
) -> None:
    spender = make(rate, burst)
    spender.owe(owed)
    spender.settle(0.0)
    assert spender.take(burst / 2, 0.0)


@settings(max_examples=200)
@given(st.integers(1, 1_000), st.integers(1, 8), st.integers(2, 16))
def test_what_is_owed_is_paid_after_the_time_that_was_said(
    owed: int, rate: int, burst: int
) -> None:
    spender = make(rate, burst)
    assert spender.take(burst, 0.0)
    spender.owe(owed)
    seconds = spender.settle(0.0)
    assert seconds == pytest.approx((owed + burst / 2) / rate)
    for part in range(1, 8):
        assert spender.settle(seconds * part / 8)
    assert not spender.settle(seconds + 1e-6)


# -- ordinary clients -------------------------------------------------------------------------


def spends(*costs: float, rate: float = 0.0, seconds: float = 0.0) -> None:
    """Costs at once, and then so much in each of some seconds: never exhausted."""
    spender = make()
    for cost in costs:
        assert spender.take(cost, 0.0)
    now = 0.0
    while now < seconds:
        now += 0.1
        assert spender.take(rate / 10, now)


def test_pongs_for_all_that_the_server_asks_exhaust_nothing() -> None:
    """Each channel is asked about once a second, each in a frame that comes together with others."""
    each = budget.PONG + arrived(30, ends_frame=True)
    spends(rate=SUBSCRIPTIONS * each + each / 30, seconds=600)


@pytest.mark.parametrize(("subscriptions", "interval"), [(100, 1.0), (1_000, 1.0), (100, 0.1)])
def test_pongs_come_on_top_of_messages_however_many_the_server_asks_for(
    subscriptions: int, interval: float
) -> None:
    """A client that sends as much as it may for hours, and whose channels are all busy."""
    spender = make(RATE + budget.pongs(subscriptions, interval))
    pongs = subscriptions / interval * (budget.PONG + arrived(43, ends_frame=True))
    for tenth in range(1, 5 * 3_600 * 10, 10):
        assert spender.take(RATE + pongs, tenth / 10)


@pytest.mark.parametrize("subscriptions", [100, 5_000])
def test_whoever_subscribes_to_all_they_may_has_spent_nothing(subscriptions: int) -> None:
    """Whatever that is: its first subscribes are given back as they begin, sixteen a turn."""
    spender = Budget(RATE, BURST, subscriptions, 0.0)
    for _ in range(0, subscriptions - 16, 16):
        for _ in range(16):
            assert spender.take(budget.MESSAGE, 0.0)
        for _ in range(16):
            assert spender.is_free_subscribe()
    assert spender.take(BURST, 0.0)


def test_a_dashboard_that_returns_exhausts_nothing() -> None:
    """It subscribes to all it may, is refused half as many more, and is asked about ten pages of each at once."""
    spender = make()
    subscribe = arrived(80, ends_frame=True)
    for _ in range(SUBSCRIPTIONS * 3 // 2):
        assert spender.take(subscribe, 0.0)
        assert spender.take(message(subscribe), 0.0)
        if not spender.is_free_subscribe():
            spender.owe(budget.SUBSCRIBE)
    assert not spender.settle(0.0)
    for _ in range(10 * SUBSCRIPTIONS):
        assert spender.take(budget.PONG + arrived(30, ends_frame=True), 0.0)


def test_messages_at_the_documented_rate_exhaust_nothing() -> None:
    """The largest ones, in fragments of 4 KiB, compressed or not."""
    fragments = 4 * arrived(4_096 + 8, ends_frame=True)
    inflated = arrived(1_000, ends_frame=True) + 16_384 * budget.BYTE
    for paid in (fragments, inflated):
        spends(rate=100 * (paid + message(paid)), seconds=600)


def test_long_messages_in_fragments_exhaust_nothing_where_they_are_allowed() -> None:
    """1 MiB in 4 KiB: twenty at once, and two a second for long."""
    fragments = 256 * arrived(4_096 + 8, ends_frame=True)
    spends(*[fragments] * 20)
    spends(rate=2 * fragments, seconds=600)


def test_a_page_that_is_shown_again_and_again_is_filled_at_once() -> None:
    """A view of 200 messages of 500 bytes, asked for with since 0 each time it is opened: once a second."""
    spender = make()
    for second in range(120):
        spender.owe(budget.SUBSCRIBE + 200 * (budget.REPEATED_MESSAGE + 500 * budget.REPEATED_BYTE))
        assert not spender.settle(second)
