"""Clients that take less than is published to them: how long the node waits for them, and when it gives up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from gateway.core import closing
from gateway.node.connection import Connection
from gateway.node.hub import Hub

log = logging.getLogger(__name__)

_LOOKS: Final = 10
"""How often a client's progress is looked at before its time is up."""


class Patience:
    """Waits for clients to take what was written to them.

    Args:
        stall: seconds without any progress after which a connection is closed.
    """

    def __init__(self, hub: Hub, stall: float) -> None:
        self._hub = hub
        self._stall = stall

    async def drained(self, connection: Connection) -> None:
        """Return when the client has taken most of what was written, or the connection ends."""
        socket = connection.socket
        taken, idle = socket.taken, 0
        while socket.congested and not connection.closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stall / _LOOKS):
                    await socket.drained()
            # Looks are counted, not seconds: a node that stood still itself has looked only once.
            idle = 0 if socket.taken > taken else idle + 1
            taken = socket.taken
            if idle >= _LOOKS:
                self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        if not connection.closed:
            log.info("slow_consumer connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.SLOW_CONSUMER)
