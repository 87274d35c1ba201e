"""What has been seen of all nodes over time, by which a display knows who is gone and how old its figures are; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.operating.nodes_table import Row, row, row_of_gone
from publisher import Node, NodeReport

REMEMBERED_SECONDS: Final = 30.0
"""For so long a node that has gone is still shown."""

ORDERS: Final[dict[str, Callable[[NodeReport], float]]] = {
    "name": lambda _report: 0.0,
    "connections": lambda report: -report.connections,
    "lag": lambda report: -report.event_loop_lag,
}
"""What the nodes may be sorted by; those with the same value are in the order of their names."""


class Watched:
    """The nodes, those that have gone a moment ago, and whether Redis answers.

    Times are seconds of a clock that never goes back.
    """

    def __init__(self) -> None:
        self.nodes: Sequence[Node] = ()
        self.asked: float | None = None
        """When the nodes were as they are shown."""
        self.problem: str | None = None
        """Why they could not be asked for since."""
        self.order = "name"
        self._gone: dict[str, float] = {}

    def found(self, nodes: Sequence[Node], now: float) -> None:
        """Redis has answered."""
        there = {node.name for node in nodes}
        left = {node.name: now for node in self.nodes if node.name not in there}
        # Whoever comes back is not gone.
        self._gone = {
            name: since
            for name, since in (self._gone | left).items()
            if name not in there and now - since < REMEMBERED_SECONDS
        }
        self.nodes, self.asked, self.problem = nodes, now, None

    def failed(self, problem: str) -> None:
        """Redis has not answered."""
        self.problem = problem

    def next_order(self) -> None:
        """Sort by the next of :data:`ORDERS`."""
        names = [*ORDERS]
        self.order = names[(names.index(self.order) + 1) % len(names)]

    def rows(self) -> list[Row]:
        """The cells of all nodes, then of those that are gone."""
        value = ORDERS[self.order]
        ordered = sorted(
            self.nodes, key=lambda node: 0.0 if node.report is None else value(node.report)
        )
        return [*map(row, ordered), *map(row_of_gone, sorted(self._gone))]
