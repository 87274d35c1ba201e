"""A node's connections for calls to Redis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from gateway.backplane.cluster_calls import ClusterCalls
from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.sentinels import SentinelWatch
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks, take_step
from publisher.errors import Unavailable
from publisher.transport.cluster import Cluster
from publisher.transport.pipeline import Pipeline
from publisher.transport.primary import LoopPrimary
from publisher.transport.redis_py import shown
from publisher.transport.topology import Topology

_LONGEST_UPKEEP_SECONDS: Final = 2.0
"""What readiness waits for is tried again after this, also when other round trips may take longer."""


class RedisConnections:
    """Two connections to the primary, which follow it.

    ``calls`` is what clients wait for. ``health`` tells whether Redis is there: it does not queue behind a crowd of
    clients, and it is also heard from there when the other's connection may be one to nowhere.

    Args:
        seconds: what a call of a client's may take.
        moved: told when another server has become the primary.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        topology: Topology,
        stats: Stats,
        seconds: float,
        moved: Callable[[], None],
        tasks: Tasks,
        jitter: Callable[[], float],
    ) -> None:
        self._moved = moved
        self._address = topology.address
        self.upkeep_seconds = min(seconds, _LONGEST_UPKEEP_SECONDS)
        self.primary = topology.for_loop(self._move)
        self.calls = Pipeline(self.primary, stats, seconds)
        self.health = Pipeline(self.primary, stats, self.upkeep_seconds, self.calls.drop_if_idle)
        self.watch = SentinelWatch(topology.sentinels, self.primary, tasks, jitter)

    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """What runs as long as the node."""
        return (self.watch.run,)

    @property
    def address(self) -> str:
        """The server that calls go to, as a person reads it."""
        primary = self.primary
        known = primary.host if isinstance(primary, LoopPrimary) else None
        return shown(known) if known else self._address

    def server_of(self, _key: str) -> str:
        """The server that calls with a key go to, as a person reads it."""
        return self.address

    def _move(self) -> None:
        self.calls.drop()
        self.health.drop()
        self._moved()

    async def aclose(self) -> None:
        """Close them; calls that are not answered fail."""
        await take_step("close the connection", self.calls.aclose())
        await take_step("close the health connection", self.health.aclose())
        await take_step("close the connections to the sentinels", self.primary.aclose())


class ClusterConnections:
    """The same two for each primary of a cluster. ``changed`` is told when slots have other owners."""

    def __init__(self, cluster: Cluster, stats: Stats, seconds: float) -> None:
        self.upkeep_seconds = min(seconds, _LONGEST_UPKEEP_SECONDS)
        self.changed: Callable[[], None] = lambda: None
        self.map = ClusterMap(cluster, self._follow)
        self.calls = ClusterCalls(self.map, stats, seconds, lambda _host: None)
        self.health = ClusterCalls(self.map, stats, self.upkeep_seconds, self.calls.drop_if_idle)

    def _follow(self) -> None:
        self.calls.follow()
        self.health.follow()
        self.changed()

    def server_of(self, key: str) -> str:
        """The same; while nobody is known to have the key it is the servers of the URL, which are asked who has."""
        try:
            return shown(self.map.known.owner(key))
        except Unavailable:
            return self.map.cluster.address

    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """What runs as long as the node: the map is asked for by whoever hears of the primaries."""
        return ()

    async def aclose(self) -> None:
        """Close them; calls that are not answered fail."""
        await take_step("close the connections", self.calls.aclose())
        await take_step("close the health connections", self.health.aclose())
        await take_step("close the connections for the map", self.map.aclose())


def connections(
    topology: Topology,
    stats: Stats,
    seconds: float,
    moved: Callable[[], None],
    tasks: Tasks,
    jitter: Callable[[], float],
) -> RedisConnections | ClusterConnections:
    """What a topology needs; the arguments are those of :class:`RedisConnections`."""
    if topology.cluster is not None:
        return ClusterConnections(topology.cluster, stats, seconds)
    return RedisConnections(topology, stats, seconds, moved, tasks, jitter)
