"""How many connections without a token there may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.node.stats import Stats
from gateway.web.unauthenticated import Unauthenticated

Step = tuple[str, int, str | None]


def test_the_one_that_has_been_here_longest_makes_room() -> None:
    here: Unauthenticated[int] = Unauthenticated(2, 10, Stats())
    for number in (1, 2):
        here.enter(number, None)
        assert not here.too_many
    here.enter(3, None)
    assert here.too_many
    assert here.oldest == 1
    here.leave(1)
    assert not here.too_many


def test_who_is_counted_anew_is_not_counted_twice_and_not_the_oldest() -> None:
    stats = Stats()
    here: Unauthenticated[int] = Unauthenticated(1, 1, stats)
    here.enter(1, "a")
    here.enter(2, "a")
    here.enter(1, "b")
    assert stats.connections_unauthenticated == 2
    assert here.all() == [2, 1]
    assert here.one_too_many("a") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave"]), st.integers(0, 9), st.sampled_from(["a", "b", None])
    ),
    max_size=60,
)


@given(STEPS)
def test_the_counts_are_those_of_who_is_here(steps: list[Step]) -> None:
    stats = Stats()
    here: Unauthenticated[int] = Unauthenticated(5, 2, stats)
    expected: dict[int, str | None] = {}
    for step, number, address in steps:
        expected.pop(number, None)
        if step == "enter":
            here.enter(number, address)
            expected[number] = address
        else:
            here.leave(number)
        assert stats.connections_unauthenticated == len(expected)
        for each in ("a", "b"):
            of_each = [number for number, address in expected.items() if address == each]
            assert here.one_too_many(each) == (of_each[0] if len(of_each) > 2 else None)
        assert here.one_too_many(None) is None
        assert here.too_many == (len(expected) > 5)
        assert not expected or here.oldest == next(iter(expected))
    for number in list(expected):
        here.leave(number)
    assert not here._of_address
