"""A primary with two replicas and three sentinels, which decide who is the primary."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from tests.faults.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.sentinel_servers import SentinelServer, SentinelServers, follows, leads
from tests.support.waiting import until

_REPLICAS: Final = 2
_DOWN_AFTER_MS: Final = 1_500
"""A busy machine is late for less, and a failover that no fault has asked for would be judged as lost messages."""
_PROMOTION_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 60.0
"""Sentinel makes a former primary a replica ten seconds after it is back, or twenty."""


class SentinelRedis:
    """``primary`` is the server that the sentinels have promoted last, as far as is known here."""

    def __init__(self, folder: Path) -> None:
        self._servers = SentinelServers(folder, down_after_ms=_DOWN_AFTER_MS, replicas=_REPLICAS)
        self.primary = self._servers.servers[0]

    @property
    def sentinels(self) -> list[SentinelServer]:
        return self._servers.sentinels

    @property
    def primaries(self) -> list[RedisServer]:
        """The servers that take writes now."""
        return [self.primary]

    def server_of(self, _key: str) -> RedisServer:
        """The primary that has a key."""
        return self.primary

    def url(self, _way: Proxy) -> str:
        """What gateways and backends are given. Sentinels tell the servers' own addresses, past any proxy."""
        return self._servers.url

    def all_up(self, told: dict[str, str]) -> bool:
        """Whether a gateway that tells this of its servers is served by the present primary."""
        return told == {f"127.0.0.1:{self.primary.port}": "up"}

    async def start(self) -> None:
        """Start all, and return once every sentinel knows all others and the replicas."""
        await self._servers.start()

    async def fail_over(self) -> None:
        """Let a replica take over while the primary lives."""
        await until(self._is_begun, _PROMOTION_SECONDS)

    async def _is_begun(self) -> bool:
        try:
            await self._servers.fail_over()
        except (
            RedisError
        ):  # the one before is not over yet, or no replica has been seen for a moment
            return False
        return True

    async def promoted(self) -> None:
        """Return once a replica says that it is the primary, which is ``primary`` from now on."""
        replicas = self._replicas

        async def one_leads() -> RedisServer | None:
            for each in replicas:
                if await leads(each):
                    return each
            return None

        self.primary = await until(one_leads, _PROMOTION_SECONDS)

    @property
    def _replicas(self) -> list[RedisServer]:
        return [each for each in self._servers.servers if each is not self.primary]

    async def settle(self) -> None:
        """Return once all others follow the primary, and every sentinel knows.

        Raises:
            AssertionError: they do not; a failover that no fault has asked for is one reason.
        """
        try:
            await until(self._is_settled, _SETTLE_SECONDS)
        except TimeoutError:
            port = self.primary.port
            raise AssertionError(f"not all servers follow the one at port {port}") from None

    async def _is_settled(self) -> bool:
        primary = self.primary
        followers = [await follows(each, primary) for each in self._replicas]
        return all(followers) and await leads(primary) and await self._servers.agree_on(primary)

    async def aclose(self) -> None:
        """End all."""
        await asyncio.to_thread(self._servers.stop)
