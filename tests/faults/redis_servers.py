"""The Redis of a world: one server and its replica, a primary that Sentinel watches over, or a cluster.

``TOPOLOGY`` in the environment chooses (``tests/support/topology.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tests.faults.cluster_redis import ClusterRedis
from tests.faults.proxy import Proxy
from tests.faults.redis_pair import RedisPair
from tests.faults.sentinel_redis import SentinelRedis
from tests.support import topology
from tests.support.redis_server import RedisServer


class RedisServers(Protocol):
    """What a world needs to know of its Redis."""

    @property
    def primaries(self) -> list[RedisServer]:
        """The servers that take writes now."""

    def server_of(self, key: str) -> RedisServer:
        """The primary that has a key."""

    def url(self, way: Proxy) -> str:
        """What gateways and backends are given; it leads through ``way`` where it can."""

    def all_up(self, told: dict[str, str]) -> bool:
        """Whether a gateway whose ``/readyz`` tells this of its servers has all that it needs."""

    async def start(self) -> None:
        """Start all servers, and return once they are what they are to be."""

    async def settle(self) -> None:
        """Return once every server that has been away is a replica again."""

    async def aclose(self) -> None:
        """End all servers."""


def redis_servers(folder: Path, *, replicated: bool) -> RedisServers:
    """Those of this run's topology, not started yet.

    Args:
        replicated: whether a single server has a replica; the others have theirs anyway.
    """
    match topology.chosen():
        case topology.SENTINEL:
            return SentinelRedis(folder)
        case topology.CLUSTER:
            return ClusterRedis(folder)
        case _:
            return RedisPair(folder, replicated=replicated)
