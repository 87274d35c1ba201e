"""How much a client may say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.rate_limit import Quota, TokenBucket


def test_a_burst_is_allowed_at_once_and_no_more() -> None:
    bucket = TokenBucket(rate=1, burst=3, now=0)
    assert [bucket.take(1, 0) for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back_with_time_up_to_the_burst() -> None:
    bucket = TokenBucket(rate=2, burst=4, now=0)
    assert bucket.take(4, 0)
    assert not bucket.take(3, 1)
    assert bucket.take(2, 1)
    assert bucket.take(4, 1_000)
    assert not bucket.take(1, 1_000)


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=0)
    assert not bucket.take(3, 0)
    assert bucket.take(2, 0)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 64), st.integers(1, 8)), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(1, 16),
)
def test_over_any_stretch_no_more_is_taken_than_burst_and_rate_allow(
    asked: list[tuple[int, int]], rate: int, burst: int
) -> None:
    bucket = TokenBucket(rate, burst, 0)
    now = 0.0
    taken: list[tuple[float, int]] = []
    for wait, cost in asked:
        now += wait / 64
        if bucket.take(cost, now):
            taken.append((now, cost))
    for i, (start, _) in enumerate(taken):
        for j in range(i, len(taken)):
            total = sum(cost for _, cost in taken[i : j + 1])
            assert total <= burst + rate * (taken[j][0] - start)


@settings(max_examples=100)
@given(st.integers(1, 8), st.integers(1, 16), st.lists(st.integers(0, 32), max_size=20))
def test_who_keeps_to_the_rate_is_never_refused(rate: int, burst: int, waits: list[int]) -> None:
    bucket = TokenBucket(rate, burst, 0)
    now = 0.0
    for wait in waits:
        # The excess is what the fractions of the clock may be off by.
        now += 1 / rate + wait + 1e-6
        assert bucket.take(1, now)


def test_of_a_quota_each_has_their_own_and_all_begin_anew_with_the_next_period() -> None:
    quota = Quota(most=3, seconds=10, now=0)
    for now in (0, 10, 25):
        assert [quota.take("a", now + each) for each in range(4)] == [True, True, True, False]
        assert quota.take("b", now + 4)
    assert quota._taken == {"a": 3, "b": 1}


def test_who_has_used_up_a_quota_waits_for_the_next_period() -> None:
    quota = Quota(most=2, seconds=60, now=0)
    assert quota.wait("a", 0) == 0
    for now in (10, 20):
        assert quota.wait("a", now) == 0
        assert quota.take("a", now)
    assert quota.wait("a", 20) == 40
    assert quota.wait("b", 20) == 0
    assert not quota.take("a", 59)
    assert quota.wait("a", 60) == 0
    assert quota.take("a", 61)
    assert quota.wait("a", 61) == 0


def test_who_cannot_be_counted_any_more_lets_all_begin_anew() -> None:
    quota = Quota(most=1, seconds=60, now=0, who=3)
    for who in "abc":
        assert quota.take(who, 0)
        assert not quota.take(who, 0)
    assert quota.wait("a", 10) == 50
    assert quota.take("d", 10)
    assert quota.wait("a", 10) == 0
    assert quota.wait("d", 10) == 60
    assert quota._taken == {"d": 1}
