"""Whether a primary answers: told in the log when that changes, and not at each try."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from publisher.errors import Unavailable

log = logging.getLogger(__name__)

TOLD_AGAIN_SECONDS: Final = 10.0
"""What happens again and again is told once in so long: also of a primary that is lost and reached by turns."""


class Contact:
    """The contact with one primary, for all calls that go there. Threads may share it.

    Args:
        address: where the primary is, as a person reads it.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, address: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._clock = clock
        self._told_at = float("-inf")
        self._failed_tries = 0
        # Holds one thing while the primary is lost. Of several threads that notice it together, one puts it there.
        self._lost: dict[str, object] = {}

    def failed(self, error: Unavailable) -> None:
        """A round trip has not been answered: ``error``, which names the primary from then on."""
        error.name(self._address())
        self._failed_tries += 1
        # What another try does not mend is raised, and so known to the caller.
        if not error.retryable or self._rests() or self._lost:
            return
        mine = object()
        if self._lost.setdefault("", mine) is mine:
            self._told_at = self._clock()
            log.warning("primary_lost server=%s reason=%r", error.server, error.reason)

    def answered(self) -> None:
        """A round trip has been answered."""
        # A backend's log often begins at WARNING; what it says of a loss has its end there too.
        failed, self._failed_tries = self._failed_tries, 0
        if self._lost and self._lost.pop("", None) is not None:
            log.warning("primary_reached server=%s failed_tries=%d", self._address(), failed)

    def given_up(self) -> None:
        """Its connections are given up here: what fails because of that is no loss."""
        self._told_at = self._clock()

    def _rests(self) -> bool:
        return self._clock() - self._told_at < TOLD_AGAIN_SECONDS
