"""A node's connections for calls to Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.backplane.sentinels import SentinelWatch
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks, take_step
from publisher.transport.pipeline import Pipeline
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
        self.upkeep_seconds = min(seconds, _LONGEST_UPKEEP_SECONDS)
        self.primary = topology.for_loop(self._move)
        self.calls = Pipeline(self.primary, stats, seconds)
        self.health = Pipeline(self.primary, stats, self.upkeep_seconds, self.calls.drop_if_idle)
        self.watch = SentinelWatch(topology.sentinels, self.primary, tasks, jitter)

    def _move(self) -> None:
        self.calls.drop()
        self.health.drop()
        self._moved()

    async def aclose(self) -> None:
        """Close them; calls that are not answered fail."""
        await take_step("close the connection", self.calls.aclose())
        await take_step("close the health connection", self.health.aclose())
        await take_step("close the connections to the sentinels", self.primary.aclose())
