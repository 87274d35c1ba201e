"""Clients that take less than is sent to them: how long the node waits for them, and when it gives up."""

from __future__ import annotations

import logging
from typing import Final

from gateway.core import closing
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock

log = logging.getLogger(__name__)

_LOOKS: Final = 10
"""How often a client's progress is looked at before its time is up."""


class Patience:
    """Waits for clients to take what was written to them, and gives up those that take nothing.

    It does not matter what waits for a client: messages, pages of a log, answers or pongs.

    Args:
        stall: seconds without any progress after which a connection is closed.
    """

    def __init__(self, hub: Hub, stall: float, clock: Clock) -> None:
        self._hub = hub
        self._pause = stall / _LOOKS
        self._clock = clock
        self._next_look = clock()
        # Of each congested connection: what it had taken, and how often it has taken nothing since.
        self._looks: dict[Connection, tuple[int, int] | None] = {}

    def watch(self, connection: Connection) -> None:
        """Look at a connection from now on, for as long as it is congested."""
        self._looks.setdefault(connection, None)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._looks.pop(connection, None)

    async def drained(self, connection: Connection) -> None:
        """Return when the client has taken most of what was written, or the connection ends."""
        while connection.socket.congested and not connection.closed:
            await connection.socket.drained()

    def tick(self) -> None:
        """Look at the clients that have too much to take; to be called several times a second."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + self._pause
        for connection, before in list(self._looks.items()):
            if connection.socket.congested and not connection.closed:
                self._look(connection, before)
            else:
                del self._looks[connection]

    def _look(self, connection: Connection, before: tuple[int, int] | None) -> None:
        taken = connection.socket.taken
        last, idle = before or (taken, -1)
        # Looks are counted, not seconds: a node that stood still itself has looked only once.
        idle = 0 if taken > last else idle + 1
        self._looks[connection] = taken, idle
        if idle >= _LOOKS:
            log.info("slow_consumer connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.SLOW_CONSUMER)
