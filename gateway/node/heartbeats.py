"""Pings connections, and closes those that do not answer in time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing, frames
from gateway.core.timing import Liveness
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock

log = logging.getLogger(__name__)

_PING: Final = frames.ping(b"h")


class Heartbeats:
    """Pings connections, and closes those that do not answer in time.

    Args:
        random: a number from 0 to 1, to spread the pings.
        interval: seconds between two pings of a connection.
        timeout: seconds that a pong may take.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        random: Callable[[], float],
        interval: float,
        timeout: float,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._random = random
        self._liveness: Liveness[str] = Liveness(interval, timeout, clock())
        self.pause = min(self._liveness.tick, timeout / 4)
        """Seconds that may pass between two ticks."""

    def watch(self, connection: Connection) -> None:
        """Ping a connection from now on."""
        self._liveness.add(connection.id, self._clock(), self._random())

    def heard(self, connection: Connection) -> None:
        """A connection has given a sign of life."""
        self._liveness.heard(connection.id, self._clock())

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._liveness.remove(connection.id)

    def tick(self) -> None:
        """Send the pings that are due, and close whoever has not answered an earlier one."""
        due = self._liveness.due(self._clock())
        connections = self._hub.connections
        for connection in filter(None, map(connections.get, due.expired)):
            log.info("pong_timeout connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.PONG_TIMEOUT)
        for connection in filter(None, map(connections.get, due.ping)):
            self._hub.send(connection, _PING)
