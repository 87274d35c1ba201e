"""Which clients are still there, asked when somebody waits for their place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from gateway.core import closing
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Hub
from gateway.node.ports import Clock
from gateway.node.tasks import Tasks

log = logging.getLogger(__name__)

SILENT_SECONDS: Final = 3.0
"""A client that gives no sign of life for so long after a ping is gone. A line may have a round trip of two seconds."""
_LOOK_SECONDS: Final = 0.1
_LONGEST_LOOK_SECONDS: Final = 0.2
"""A look that came later was late because the node stood still: no more than this counts of it."""
_AGAIN_SECONDS: Final = 1.0
"""What is known of a client is not asked again for so long."""


class LifeChecks:
    """Asks clients for a sign of life, and closes those that give none.

    A sign is a byte that came from the client, or one it has taken of what was written before the ping.

    Args:
        freed: told the user and the id of a connection that is closed, and no longer needs its place, though its
            client may still be about to read why.
    """

    def __init__(
        self,
        hub: Hub,
        heartbeats: Heartbeats,
        tasks: Tasks,
        clock: Clock,
        freed: Callable[[str, str], None],
    ) -> None:
        self._hub = hub
        self._heartbeats = heartbeats
        self._tasks = tasks
        self._clock = clock
        self._freed = freed
        self._checks: dict[str, asyncio.Task[None]] = {}

    async def look(self, ids: Iterable[str]) -> None:
        """Return when each of these connections has shown life, or is closed; unknown ones are no error."""
        connections = [self._hub.connections[each] for each in ids if each in self._hub.connections]
        if connections:
            await asyncio.wait([self._check(each) for each in connections])

    def _check(self, connection: Connection) -> asyncio.Task[None]:
        check = self._checks.get(connection.id)
        if check is None:
            check = self._tasks.spawn(self._look(connection), f"look for {connection!r}")
            self._checks[connection.id] = check
            check.add_done_callback(lambda _: self._forget_later(connection))
        return check

    def _forget_later(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_AGAIN_SECONDS, self._checks.pop, connection.id, None)

    async def _look(self, connection: Connection) -> None:
        lives = connection.closed or await self._shows_life(connection)
        if not (lives or connection.closed):
            log.info("connection_silent connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.PONG_TIMEOUT)
        if connection.closed:
            self._freed(connection.user, connection.id)

    async def _shows_life(self, connection: Connection) -> bool:
        question = self._heartbeats.ask(connection)
        waited, looked = 0.0, self._clock()
        while waited < SILENT_SECONDS and not connection.closed:
            await asyncio.sleep(_LOOK_SECONDS)
            if question.answered:
                return True
            now = self._clock()
            waited += min(now - looked, _LONGEST_LOOK_SECONDS)
            looked = now
        return False
