"""Who is in a channel on all nodes, as a client of this node is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.node.presence import PresentUsers
from publisher.contract.calls import present, users_of
from publisher.contract.keys import Keys
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
        self._node = f"{node}/".encode()
        self._own = own

    async def users(self, channel: str) -> list[str]:
        """The users in a channel, each once, in the order of their ids."""
        async with self._turns[self._server_of(self._keys.presence(channel))]:
            members = await self._pipeline.call(present(self._keys, channel))
        others = users_of(each for each in members if not each.startswith(self._node))
        return sorted(others | self._own.users(channel).keys())
