"""What the connections of a user may cost together: as soon as there are several, and as long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import budget
from gateway.core.budget import Allowance, Budget
from gateway.node.user_budgets import UserBudgets


def make(rate: float = 100.0, burst: float = 1_000.0, subscribes: int = 0) -> Budget:
    return Budget(rate, burst, subscribes, 0.0)


def together(count: int, user: UserBudgets | None = None, **own: float) -> list[Budget]:
    """Budgets of a user with so many connections, who may spend 25 a second and 250 at once."""
    budgets = [make(**own) for _ in range(count)]
    user = user or UserBudgets(Allowance(25.0, 250.0), lambda: 0.0)
    for each in budgets:
        user.enter("u", each)
    return budgets


def test_one_connection_is_held_to_its_own_budget_alone() -> None:
    [one] = together(1)
    assert one.shared is None


def test_several_have_one_together_and_another_user_has_another() -> None:
    users = UserBudgets(Allowance(25.0, 250.0), lambda: 0.0)
    first, second, third = together(3, users)
    assert first.shared is second.shared is third.shared is not None
    users.enter("v", other := make())
    users.enter("v", make())
    assert other.shared not in (None, first.shared)


def test_with_the_last_but_one_it_ends_and_the_next_one_begins_anew() -> None:
    users = UserBudgets(Allowance(25.0, 250.0), lambda: 0.0)
    first, second, third = together(3, users)
    shared = first.shared
    users.leave("u", second)
    assert first.shared is third.shared is shared
    users.leave("u", first)
    assert third.shared is None
    users.enter("u", first)
    assert first.shared is third.shared
    assert first.shared not in (None, shared)
    users.leave("u", third)
    users.leave("u", first)
    assert not users._of_user


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("uv"), st.integers(0, 5)), max_size=60)


@given(STEPS)
def test_who_has_several_has_one_together_whoever_comes_and_goes(
    steps: list[tuple[bool, str, int]],
) -> None:
    users = UserBudgets(Allowance(25.0, 250.0), lambda: 0.0)
    here: dict[str, dict[int, Budget]] = {"u": {}, "v": {}}
    for enters, user, number in steps:
        present = here[user]
        if enters and number not in present:
            present[number] = make()
            users.enter(user, present[number])
        elif not enters and number in present:
            users.leave(user, present.pop(number))
        for each in here.values():
            shared = {id(one.shared) for one in each.values() if one.shared is not None}
            assert len(shared) == (1 if len(each) > 1 else 0)
            assert all((one.shared is None) == (len(each) == 1) for one in each.values())
    assert set(users._of_user) == {user for user, present in here.items() if present}


# -- what is charged --------------------------------------------------------------------------


def test_what_is_done_for_one_is_owed_by_all_and_waited_for_by_all() -> None:
    first, second = together(2)
    first.owe(125 + 50)
    # The lower half is for what they say.
    assert first.settle(0.0) == pytest.approx(2.0)
    assert second.settle(0.0) == pytest.approx(2.0)
    assert second.settle(2.0 + 1e-9) == 0
    assert first.settle(2.0 + 1e-9) == 0


def test_the_longer_wait_counts() -> None:
    first, second = together(2, rate=1.0, burst=10.0)
    first.owe(10)
    assert first.settle(0.0) == pytest.approx(5.0)
    assert second.settle(0.0) == 0


def test_the_first_subscribes_of_a_connection_cost_its_user_nothing() -> None:
    budgets = together(5, subscribes=100)
    shared = budgets[0].shared
    assert shared is not None
    for each in budgets:
        for _ in range(100):
            assert each.take(budget.MESSAGE, 0.0)
            assert shared.take(budget.MESSAGE, 0.0)
            assert each.is_free_subscribe()
    assert shared.take(250, 0.0)
