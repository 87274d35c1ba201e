"""What all connections of a user on this node may cost together. One alone is held to its own budget."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.core.budget import Allowance, Budget
from gateway.node.by_name import ByName
from gateway.node.ports import Clock

_LOOKED_AT: Final = 2
"""Budgets, whenever a connection leaves, that may be full again: more than the one that it may leave behind."""


class UserBudgets:
    """Gives the connections of a user a budget that they share, as long as there are several.

    It is kept until it is full again, also for one that is left, and so is what one alone had spent when it left: whoever
    comes again and again has no more than who stays.
    """

    def __init__(self, allowance: Allowance, clock: Clock) -> None:
        self._allowance = allowance
        self._clock = clock
        self._of_user: ByName[Budget] = ByName()
        # Most users have one connection, and need nothing but its budget.
        self._shared: dict[str, Budget] = {}
        # Of which users it may be given up.
        self._kept: OrderedDict[str, None] = OrderedDict()

    def enter(self, user: str, budget: Budget) -> None:
        """One more connection of a user, with its budget."""
        if user not in self._shared:
            for present in self._of_user.of(user):
                present.shared = self._shared[user] = self._after(present)
        budget.shared = self._shared.get(user)
        self._of_user.add(user, budget)

    def leave(self, user: str, budget: Budget) -> None:
        """One less."""
        self._of_user.remove(user, budget)
        if user not in self._shared and budget.spent(self._clock()):
            self._shared[user] = self._after(budget)
        if user in self._shared:
            self._kept[user] = None
        self._forget()

    def _after(self, budget: Budget) -> Budget:
        """A budget of a user who has spent so much over one connection."""
        now = self._clock()
        shared = Budget(*self._allowance, 0, now)
        shared.take(min(budget.spent(now), self._allowance.burst), now)
        return shared

    def _forget(self) -> None:
        """Give up some of those that are full again, of users who have not several connections."""
        now = self._clock()
        for _ in range(min(_LOOKED_AT, len(self._kept))):
            user, _ = self._kept.popitem(last=False)
            present = self._of_user.of(user)
            if len(present) > 1:
                continue
            if self._shared[user].spent(now):
                self._kept[user] = None
                continue
            del self._shared[user]
            for each in present:
                each.shared = None
