"""A primary and its replica, which takes over when a test wants it to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import redis.asyncio

from tests.faults.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

_SYNC_SECONDS = 20.0
_PAUSE_MS = 20_000
_OPTIONS: Final = (
    # What has been written is the kernel's, which no signal to Redis reaches. `everysec` may put a write
    # off while the disk is busy (redis.conf, appendfsync), and what waits then dies with the process.
    *("--appendonly", "yes", "--appendfsync", "no"),
    *("--repl-diskless-sync-delay", "0"),
)


class RedisPair:
    """``primary`` is the server that backends and gateways use now. ``spare`` is its replica.

    Args:
        replicated: whether there is a replica.
    """

    def __init__(self, folder: Path, *, replicated: bool) -> None:
        self.primary = _server(folder / "redis-a")
        self.spare = _server(folder / "redis-b")
        self._replicated = replicated
        self._line = Proxy()

    @property
    def primaries(self) -> list[RedisServer]:
        """The servers that take writes now."""
        return [self.primary]

    def server_of(self, _key: str) -> RedisServer:
        """The primary that has a key."""
        return self.primary

    def url(self, way: Proxy) -> str:
        """What gateways and backends are given."""
        return f"redis://127.0.0.1:{way.port}"

    def all_up(self, told: dict[str, str]) -> bool:
        """Whether a gateway that tells this of its servers is served."""
        return list(told.values()) == ["up"]

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

    async def settle(self) -> None:
        """Nothing becomes of these servers by itself."""

    async def aclose(self) -> None:
        """End both."""
        await self._line.aclose()
        for server in (self.spare, self.primary):
            await asyncio.to_thread(server.stop)


def _server(folder: Path) -> RedisServer:
    folder.mkdir()
    return RedisServer(folder, *_OPTIONS)
