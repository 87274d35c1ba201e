"""Three primaries of a cluster with a replica each, and what is known here of who has what."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from publisher.transport.cluster import slot_of
from tests.faults.proxy import Proxy
from tests.support.redis_cluster import ClusterServer, RedisCluster
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

_NODE_TIMEOUT_MS: Final = 2_000
"""A busy machine is late for less, and a failover that no fault has asked for would be judged as lost messages."""
_PROMOTION_SECONDS: Final = 30.0


class ClusterRedis:
    """``cluster`` are the servers. It blocks, so everything that asks it goes to a thread."""

    def __init__(self, folder: Path) -> None:
        self.cluster = RedisCluster(folder, node_timeout_ms=_NODE_TIMEOUT_MS)
        self._owners: list[tuple[int, int, ClusterServer]] = []

    @property
    def primaries(self) -> list[RedisServer]:
        """The servers that take writes now, in an order that does not change."""
        owners = [owner for _, _, owner in self._owners]
        return [each for each in self.cluster.servers if each in owners]

    def owner(self, slot: int) -> ClusterServer:
        """The primary that has a slot."""
        return next(owner for first, last, owner in self._owners if first <= slot <= last)

    def server_of(self, key: str) -> RedisServer:
        """The primary that has a key."""
        return self.owner(slot_of(key))

    def url(self, _way: Proxy) -> str:
        """What gateways and backends are given. The servers tell each other's addresses, past any proxy."""
        return self.cluster.url_of(self.cluster.servers[:2])

    def all_up(self, told: dict[str, str]) -> bool:
        """Whether a gateway that tells this of its servers is served by every primary, and knows of no other."""
        return told == {f"127.0.0.1:{each.port}": "up" for each in self.primaries}

    async def start(self) -> None:
        """Start all, and return once they are a cluster."""
        await asyncio.to_thread(self.cluster.start)
        await self.look()

    async def look(self, at: ClusterServer | None = None) -> None:
        """Learn who has what from a server; any that lives unless given."""
        server = at or self.cluster.living[0]
        parts = await asyncio.to_thread(server.run, "CLUSTER", "SLOTS")
        by_port = {each.port: each for each in self.cluster.servers}
        self._owners = [(first, last, by_port[owner[1]]) for first, last, owner, *_ in parts]

    async def settle(self) -> None:
        """Return once all servers agree on who has what, and every replica follows.

        Raises:
            AssertionError: another server has taken over, and no fault had asked for it.
        """
        await asyncio.to_thread(self.cluster.settle)
        known = self.primaries
        await self.look()
        assert self.primaries == known, "a failover that no fault has asked for"

    async def any_pair(self, dice: random.Random) -> tuple[ClusterServer, ClusterServer]:
        """A primary and its replica, once all are in their places."""
        await self.settle()
        primary = dice.choice(self.primaries)
        return primary, await asyncio.to_thread(self.cluster.replica_of, primary)

    async def promoted(self, replica: ClusterServer) -> None:
        """Return once ``replica`` says that it is a primary."""
        await until(lambda: asyncio.to_thread(lambda: replica.leads), _PROMOTION_SECONDS)
        await self.look(replica)

    async def move(self, slot: int, to: ClusterServer) -> None:
        """Move a slot with all that is in it."""
        await asyncio.to_thread(self.cluster.move_slot, slot, to)
        await self.look(to)

    async def aclose(self) -> None:
        """End all."""
        await asyncio.to_thread(self.cluster.stop)
