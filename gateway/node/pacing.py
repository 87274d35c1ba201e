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

    async def bear(self, connection: Connection, cost: float) -> None:
        """Wait until a connection may ask Redis for another subscription, at this cost; the first ones are free."""
        if not connection.budget.is_free_subscribe():
            await self.ready(connection)
            connection.budget.owe(cost)

    async def ready(self, connection: Connection) -> None:
        """Wait until a connection owes nothing for what was done before; first come, first served."""
        self._stats.requests_delayed += connection.paying.locked() or not self.due(connection)
        # Only the first has a timer. If all had one, each would wake up for every payment of another.
        async with connection.paying:
            while seconds := connection.budget.settle(self._clock()):  # noqa: ASYNC110 - it says when
                await asyncio.sleep(seconds)
