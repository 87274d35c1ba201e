"""Clients that take less than is published to them.

What is written to a client's socket faster than the client reads it waits in this process's memory.
Above the high-water mark the connection is left out of live delivery; nothing more is kept for it,
because what is logged is in the log. When it has taken most of what waits, it reads on in the log from
where it stood, page by page at its own pace, and goes live again when it has caught up. A client
that takes nothing for long is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks

log = logging.getLogger(__name__)

_LOOKS: Final = 10
"""How often a client's progress is looked at before its time is up."""


class Patience:
    """Waits for clients to take what was written to them.

    Args:
        heard: told of a connection that has made progress: it is alive, though its pong is stuck
            behind what it has yet to read.
        stall: seconds without any progress after which a connection is closed.
    """

    def __init__(self, hub: Hub, heard: Callable[[Connection], None], stall: float) -> None:
        self._hub = hub
        self._heard = heard
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
            if not idle:
                self._heard(connection)
            elif idle >= _LOOKS:
                self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        if not connection.closed:
            log.info("slow_consumer connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.SLOW_CONSUMER)


class SlowConsumers:
    """Leaves connections out of live delivery and takes them back.

    Args:
        resume: lets a subscription that stands apart catch up and go live.
    """

    def __init__(
        self,
        hub: Hub,
        patience: Patience,
        resume: Callable[[Connection], None],
        tasks: Tasks,
        stats: Stats,
    ) -> None:
        self._hub = hub
        self._patience = patience
        self._resume = resume
        self._tasks = tasks
        self._stats = stats

    def leave_out(self, connection: Connection) -> None:
        """Take a connection out of live delivery until it has taken most of what waits for it.

        One that hears nothing live, because it still reads the log, waits between its pages anyway.
        """
        was_live = False
        for subscription in connection.subscriptions.values():
            if subscription.live is not None:
                self._hub.set_apart(subscription.live, subscription)
                was_live = True
        if not was_live or connection.behind or connection.closed:
            return
        connection.behind = True
        self._stats.slow_consumers += 1
        log.info("left_live connection=%s user=%r", connection.id, connection.user)
        self._tasks.spawn(self._take_back(connection), f"wait for {connection.id}")

    async def _take_back(self, connection: Connection) -> None:
        await self._patience.drained(connection)
        connection.behind = False
        if not connection.closed:
            self._resume(connection)
