"""The connections to Redis that round trips share."""

from __future__ import annotations

from redis.asyncio import ConnectionPool


class Pool(ConnectionPool):
    """Keeps connections for further use, as long as there is no trouble with any."""

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses.

        After a failover, or over a way that is no more, they look healthy, and each would cost whoever
        takes it a time-out: also when Redis has long been answering others.
        """
        for connection in self._available_connections:
            # Without waiting, so that nobody takes one out of the pool meanwhile.
            await connection.disconnect(nowait=True)
