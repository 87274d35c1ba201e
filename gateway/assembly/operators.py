"""The fifth group: what a node tells operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.assembly.delivery import Delivery
from gateway.assembly.entrance import Entrance, State
from gateway.assembly.redis_side import RedisSide
from gateway.assembly.shared import CLOCK, VERSION, Shared
from gateway.backplane.node_reports import NodeReports
from gateway.node.reporting import About, Condition, Reporter


class Operators:
    """The node's reports."""

    def __init__(
        self,
        shared: Shared,
        redis: RedisSide,
        delivery: Delivery,
        entrance: Entrance,
        state: State,
    ) -> None:
        about = About(VERSION, time.time_ns() // 1_000_000, entrance.capacity.connections)
        condition = Condition(state.ready, lambda: delivery.drain.leaving, redis.hearing.servers)
        reporter = Reporter(about, condition, delivery.hub, shared.stats, CLOCK)
        self.reports = NodeReports(
            redis.pipeline,
            redis.keys,
            shared.node_id,
            shared.settings.node_lease_seconds,
            reporter.report,
        )

    def loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What runs as long as the node does."""
        return [self.reports.run]
