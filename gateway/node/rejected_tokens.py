"""What the log is told of tokens that are shown on open connections and not accepted: a few lines of each kind."""

from __future__ import annotations

import logging

from gateway.core.log_limit import LogLimit
from gateway.node.connection import Connection
from gateway.node.ports import Clock

log = logging.getLogger(__name__)


class RejectedTokens:
    """Logs them, and how many lines were left out: a client can show as many as its budget bears."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limit = LogLimit(clock())

    def tell(self, event: str, connection: Connection, reason: str, **details: str) -> None:
        """One was not accepted.

        Args:
            event: the first word of the line.
            connection: that has shown it.
            reason: what is wrong, without anything that the token holds.
            details: what it was shown for.
        """
        left_out = self._limit.admit(event, self._clock())
        if left_out is None:
            return
        keys = ("connection", "user", *details, "reason", "left_out")
        template = " ".join((event, *(f"{key}=%{'r' if key == 'user' else 's'}" for key in keys)))
        values = (connection.id, connection.user, *details.values(), reason, left_out or None)
        log.info(template, *values)
