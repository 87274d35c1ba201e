"""Who is in a channel on all nodes, as a client of this node is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.node.presence import PresentUsers
from publisher.contract.keys import Keys
from publisher.contract.presence import PresenceReading
from publisher.transport.pipeline import Calls

_AT_ONCE: Final = 50
"""When a server is back, all nodes read anew what clients have asked about, besides all logs."""


class PresenceReader:
    """Implements ``ports.PresenceLog``. Of its own users a node knows more than it has written yet.

    Args:
        servers: each is asked about a few channels at a time.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        node: str,
        own: PresentUsers,
        servers: Servers = ONE,
    ) -> None:
        self._pipeline = pipeline
        self._server_of = servers.of
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, _AT_ONCE)
        )
        self._keys = keys
        self._node = node
        self._own = own

    async def users(self, channel: str) -> list[str]:
        """The users in a channel, each once, in the order of their ids."""
        async with self._turns[self._server_of(self._keys.presence(channel))]:
            reading = PresenceReading(self._keys, channel, apart_from=self._node)
            while reading.take(await self._pipeline.call(reading.next_part)):
                pass
        reading.add(self._own.users(channel))
        return reading.users()
