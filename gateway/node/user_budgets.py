"""What all connections of a user on this node may cost together. One alone is held to its own budget."""

from __future__ import annotations

from gateway.core.budget import Allowance, Budget
from gateway.node.ports import Clock


class UserBudgets:
    """Gives the connections of a user a budget that they share, as long as there are several."""

    def __init__(self, allowance: Allowance, clock: Clock) -> None:
        self._allowance = allowance
        self._clock = clock
        # Most users have one connection, and need nothing but its budget.
        self._of_user: dict[str, Budget | set[Budget]] = {}

    def enter(self, user: str, budget: Budget) -> None:
        """One more connection of a user, with its budget."""
        present = self._of_user.get(user)
        if present is None:
            self._of_user[user] = budget
        elif isinstance(present, set):
            budget.shared = next(iter(present)).shared
            present.add(budget)
        else:
            present.shared = budget.shared = Budget(*self._allowance, 0, self._clock())
            self._of_user[user] = {present, budget}

    def leave(self, user: str, budget: Budget) -> None:
        """One less."""
        present = self._of_user[user]
        if not isinstance(present, set):
            del self._of_user[user]
            return
        present.remove(budget)
        if len(present) == 1:
            [last] = present
            last.shared = None
            self._of_user[user] = last
