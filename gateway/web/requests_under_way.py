"""Requests to streams that are under way on this node, polls or what is said: how many there may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.core.handshake import Refusal
from gateway.web.admission import TOO_MANY, Admission, unavailable

_FOR_A_PLACE: Final = 4
"""So many may be under way for each place that a user has. One waits; of those before it a client on a bad line may not have
taken the answers yet."""


class RequestsUnderWay:
    """Counts requests of one kind until their connections are over.

    Each holds room on the node, but for the first to a stream that is here: its place is counted.

    Args:
        places: how many a user has.
    """

    def __init__(self, admission: Admission, places: int) -> None:
        self._admission = admission
        self._most = places * _FOR_A_PLACE
        self._of_user: Counter[str] = Counter()
        self._streams: set[str] = set()

    def enter(self, user: str, stream: str, *, here: bool) -> Callable[[], None] | Refusal:
        """Count a request of ``user`` to a ``stream`` that is ``here`` or elsewhere. Returns what is called once when it is over; or why
        it may not be.
        """
        if self._of_user[user] >= self._most:
            return TOO_MANY
        covered = here and stream not in self._streams
        if not covered and not self._admission.lend():
            return unavailable("node_full")
        if covered:
            self._streams.add(stream)
        self._of_user[user] += 1

        def over() -> None:
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]
            if covered:
                self._streams.discard(stream)
            else:
                self._admission.give_back()

        return over
