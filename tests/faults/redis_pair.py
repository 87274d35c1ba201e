"""A primary and its replica, which takes over when a test wants it to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import redis.asyncio

from tests.faults.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

_SYNC_SECONDS = 20.0
_PAUSE_MS = 20_000


class RedisPair:
    """``primary`` is the server that backends and gateways use now. ``spare`` is its replica.

    Args:
        options: of both servers.
        replicated: whether there is a replica.
    """

    def __init__(self, folder: Path, *options: str, replicated: bool) -> None:
        options = (*options, "--repl-diskless-sync-delay", "0")
        self.primary = _server(folder / "redis-a", *options)
        self.spare = _server(folder / "redis-b", *options)
        self._replicated = replicated
        self._line = Proxy()

    async def start(self) -> None:
        """Start both, and return once the replica follows."""
        await asyncio.to_thread(self.primary.start)
        if self._replicated:
            await asyncio.to_thread(self.spare.start)
            await self._follow()

    async def _follow(self) -> None:
        """Let the spare follow the primary, through a line that can be cut."""
        self._line.targets = [self.primary.port]
        await self._line.start()
        async with redis.asyncio.Redis(port=self.spare.port) as client:
            await client.replicaof("127.0.0.1", self._line.port)
            await until(lambda: self._is_linked(client), _SYNC_SECONDS)

    @staticmethod
    async def _is_linked(client: redis.asyncio.Redis) -> bool:
        return bool((await client.info("replication")).get("master_link_status") == "up")

    async def replica_follows(self, *, paused: bool) -> None:
        """Return once the replica has all that has been written until now.

        Args:
            paused: whether the primary takes no more writes from now on.
        """
        async with (
            redis.asyncio.Redis(port=self.primary.port) as primary,
            redis.asyncio.Redis(port=self.spare.port) as spare,
        ):
            if paused:
                await primary.client_pause(_PAUSE_MS, all=False)
            written = (await primary.info("replication"))["master_repl_offset"]

            async def has_it() -> bool:
                state = await spare.info("replication")
                linked = state.get("master_link_status") == "up"
                return bool(linked and state["slave_repl_offset"] >= written)

            await until(has_it, _SYNC_SECONDS)

    def cut_replication(self) -> None:
        """Let the replica hear nothing more."""
        self._line.refuse()

    def kill_primary(self) -> None:
        """End the primary without warning."""
        self.primary.kill()

    async def promote_replica(self) -> None:
        """Make the replica the primary."""
        async with redis.asyncio.Redis(port=self.spare.port) as client:
            await client.replicaof("NO", "ONE")
        self.primary, self.spare = self.spare, self.primary

    async def replace_dead(self) -> None:
        """Start the one that was the primary again, empty, as the new one's replica."""
        self._line.refuse()
        self.spare.forget()
        await asyncio.to_thread(self.spare.restart)
        await self._follow()

    async def aclose(self) -> None:
        """End both."""
        await self._line.aclose()
        for server in (self.spare, self.primary):
            await asyncio.to_thread(server.stop)


def _server(folder: Path, *options: str) -> RedisServer:
    folder.mkdir()
    return RedisServer(folder, *options)
