"""What a node says of itself to operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.node.hub import Hub
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.contract.node_report import NodeReport


@dataclass(frozen=True, slots=True)
class About:
    """What stays the same as long as the node runs: its version, when it began (ms since 1970), and how much it may hold."""

    version: str
    since: int
    connections_limit: int


@dataclass(frozen=True, slots=True)
class Condition:
    """How the node is: whether it is ready, whether it is about to end, and whether each server of Redis is heard."""

    ready: Callable[[], bool]
    draining: Callable[[], bool]
    redis_servers: Callable[[], Mapping[str, bool]]


class Reporter:
    """Makes reports; the rates in each are those since the one before.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(
        self, about: About, condition: Condition, hub: Hub, stats: Stats, clock: Clock
    ) -> None:
        self._about = about
        self._condition = condition
        self._hub = hub
        self._stats = stats
        self._clock = clock
        self._then = clock()
        self._counted = self._counts()

    def _counts(self) -> tuple[int, int, int]:
        stats = self._stats
        return stats.messages_received, stats.messages_delivered, stats.connections_opened

    def report(self) -> NodeReport:
        """How the node is now."""
        now, counts = self._clock(), self._counts()
        seconds = now - self._then
        received, delivered, opened = (
            round((count - before) / seconds, 1) if seconds > 0 else 0.0
            for count, before in zip(counts, self._counted, strict=True)
        )
        self._then, self._counted = now, counts
        connections = self._hub.connections.values()
        servers = self._condition.redis_servers()
        return NodeReport(
            version=self._about.version,
            since=self._about.since,
            ready=self._condition.ready(),
            draining=self._condition.draining(),
            connections=len(connections),
            connections_limit=self._about.connections_limit,
            subscriptions=sum(len(each.subscriptions) for each in connections),
            channels=len(self._hub.channels),
            received_per_second=received,
            delivered_per_second=delivered,
            opened_per_second=opened,
            event_loop_lag=round(self._stats.event_loop_lag, 4),
            redis_down=tuple(address for address, up in servers.items() if not up),
        )
