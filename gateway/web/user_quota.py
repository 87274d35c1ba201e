"""How often one user may ask something of a node."""

from __future__ import annotations

import math
from typing import Final

from gateway.core.handshake import Refusal
from gateway.core.rate_limit import Quota
from gateway.node.ports import Clock

_AT_LEAST: Final = 200
_FOR_A_PLACE: Final = 40
_PERIOD_SECONDS: Final = 10.0
_USERS: Final = 10_000
"""So often in a period, of so many users: more where a user may have more connections."""


def too_many(cause: str, seconds: float) -> Refusal:
    """The answer to a user for whom enough is done for so many seconds. ``cause`` says in a word for the log what is counted."""
    again = {"Retry-After": str(math.ceil(seconds))}
    return Refusal(429, "too_many_requests", "too many requests of this user", again, cause)


class UserQuota:
    """Counts what is done for a user. Who asks is looked at before, and counted when it is known that the token is good:
    one that was revoked spends nothing of its user's.

    Args:
        places: how many connections a user may have.
        cause: what is counted, in a word for the log.
    """

    def __init__(self, places: int, cause: str, clock: Clock) -> None:
        self._cause = cause
        self._clock = clock
        self._quota = Quota(max(_AT_LEAST, _FOR_A_PLACE * places), _PERIOD_SECONDS, clock(), _USERS)

    def refusal(self, user: str) -> Refusal | None:
        """Why nothing more is done for a user now; ``None`` where it is."""
        wait = self._quota.wait(user, self._clock())
        return too_many(self._cause, wait) if wait else None

    def count(self, user: str) -> None:
        """It is done once more."""
        self._quota.take(user, self._clock())
