"""What the connections of a user may cost together: as soon as there are several, and until that has come back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assembly.entrance import _limits
from gateway.core import budget
from gateway.core.budget import Allowance, Budget
from gateway.node.user_budgets import UserBudgets
from gateway.settings import Settings


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


def spend(one: Budget, cost: float, now: float) -> bool:
    """What a client does."""
    return one.take(cost, now) and (one.shared is None or one.shared.take(cost, now))


def test_with_the_last_but_one_it_ends_where_nothing_is_spent_of_it() -> None:
    users = UserBudgets(Allowance(25.0, 250.0), lambda: 0.0)
    first, second, third = together(3, users)
    shared = first.shared
    users.leave("u", second)
    assert first.shared is third.shared is shared
    users.leave("u", first)
    assert third.shared is None
    users.leave("u", third)
    assert not (users._of_user.names() or users._shared or users._kept)


@pytest.mark.parametrize("stays", [True, False], ids=["beside one that stays", "alone"])
def test_who_comes_and_spends_and_goes_again_and_again_has_no_more_than_who_stays(
    *, stays: bool
) -> None:
    now = 0.0
    users = UserBudgets(Allowance(25.0, 250.0), lambda: now)
    if stays:
        users.enter("u", make())
    spent = 0
    for _ in range(20):
        users.enter("u", one := make(rate=25.0, burst=100.0))
        while spend(one, 1, now):
            spent += 1
        users.leave("u", one)
    assert spent == 250


def test_what_was_spent_is_kept_until_it_has_come_back() -> None:
    now = 0.0
    users = UserBudgets(Allowance(25.0, 250.0), lambda: now)
    first, second = together(2, users)
    assert spend(second, 200, now)
    users.leave("u", second)
    assert first.shared is not None
    assert not spend(first, 51, now)
    now = 7.9
    for other in range(5):
        users.enter(f"v{other}", one := make())
        users.leave(f"v{other}", one)
    assert first.shared is not None
    now = 8.0
    users.enter("w", one := make())
    users.leave("w", one)
    assert first.shared is None
    assert not (users._shared or users._kept)


def test_what_is_owed_when_all_have_gone_comes_back_too() -> None:
    now = 0.0
    users = UserBudgets(Allowance(25.0, 250.0), lambda: now)
    first, second = together(2, users)
    first.owe(1_000)
    users.leave("u", first)
    users.leave("u", second)
    now = 1_000 / 25
    users.enter("v", one := make())
    users.leave("v", one)
    assert not (users._shared or users._kept)


def test_users_who_come_and_go_without_end_leave_nothing_behind() -> None:
    now = 0.0
    users = UserBudgets(Allowance(25.0, 250.0), lambda: now)
    for number in range(1_000):
        one, other = make(), make()
        users.enter(f"u{number}", one)
        users.enter(f"u{number}", other)
        assert spend(other, 25, now)
        users.leave(f"u{number}", one)
        users.leave(f"u{number}", other)
        now += 0.1
        # Each is full again after a second.
        assert len(users._shared) <= 20
        assert len(users._kept) <= 20


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
    assert set(users._of_user.names()) == {user for user, present in here.items() if present}


# -- how large it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "rate", "burst"),
    [
        ({}, 250, 2_500),
        ({"client_messages_per_second": 500, "max_connections_per_user": 50}, 12_500, 25_000),
        ({"max_connections_per_user": 1}, 100, 1_000),
        ({"user_messages_per_second": 7, "user_message_burst": 70}, 100, 1_000),
        ({"user_messages_per_second": 700, "user_message_burst": 7_000}, 700, 7_000),
    ],
)
def test_a_user_has_half_of_what_as_many_connections_may_or_what_is_set_and_no_less_than_one(
    given: dict[str, Any], rate: float, burst: float
) -> None:
    settings = Settings(confirm_interval_seconds=1e9, **given)
    assert _limits(settings, 1.0).user_budget == pytest.approx((rate, burst))


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
