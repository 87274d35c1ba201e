"""Polls that wait for their answers on this node: how many there may be."""

from __future__ import annotations

from collections import Counter
from typing import Final

from gateway.core.handshake import Refusal
from gateway.node.stats import Stats
from gateway.web.admission import Admission, unavailable

_FOR_A_PLACE: Final = 4
"""So many may be under way for each place that a user has. One waits; of those before it a client on a bad line may not have
taken the answers yet."""

TOO_MANY: Final = Refusal(
    429, "too_many_requests", "too many requests of this user", {"Retry-After": "5"}
)


class PollsUnderWay:
    """Counts polls from their requests until their connections are over.

    Those of clients whose places are on other nodes hold room on this one; for the others their places do.

    Args:
        places: how many a user has.
    """

    def __init__(self, admission: Admission, places: int, stats: Stats) -> None:
        self._admission = admission
        self._most = places * _FOR_A_PLACE
        self._stats = stats
        self._of_user: Counter[str] = Counter()

    def enter(self, user: str, *, here: bool) -> Refusal | None:
        """Count one, of a client whose place is ``here`` or elsewhere; :meth:`leave` follows. Or why it may not be."""
        if self._of_user[user] >= self._most:
            return TOO_MANY
        if not here and not self._admission.lend():
            return unavailable("node_full")
        self._of_user[user] += 1
        self._stats.polls_under_way += 1
        return None

    def leave(self, user: str, *, here: bool) -> None:
        """One is over."""
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]
        self._stats.polls_under_way -= 1
        if not here:
            self._admission.give_back()
