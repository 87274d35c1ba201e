"""What is done for a client in Redis waits until the budget of its connection bears it."""

from __future__ import annotations

import asyncio

from gateway.node.connection import Connection
from gateway.node.ports import Clock
from gateway.node.stats import Stats


class Pacing:
    """Lets clients wait for what they ask for too often."""

    def __init__(self, clock: Clock, stats: Stats) -> None:
        self._clock = clock
        self._stats = stats

    def due(self, connection: Connection) -> bool:
        """Whether a connection owes nothing for what was done before."""
        return not connection.budget.settle(self._clock())

    async def ready(self, connection: Connection) -> None:
        """Wait until a connection owes nothing for what was done before."""
        seconds = connection.budget.settle(self._clock())
        self._stats.requests_delayed += bool(seconds)
        while seconds:
            await asyncio.sleep(seconds)
            seconds = connection.budget.settle(self._clock())
