"""What ``gateway top`` shows of the nodes; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from publisher import Node

_HEAD = ("NODE", "VERSION", "STATE", "CONNECTIONS", "CHANNELS", "IN/S", "OUT/S", "LAG MS", "REDIS")


def as_json(nodes: Sequence[Node]) -> dict[str, Any]:
    """All nodes by name, each with its report (``null`` for one that has not said anything), and their sums."""
    reports = [node.report for node in nodes if node.report is not None]
    return {
        "nodes": [asdict(node) for node in nodes],
        "connections": sum(each.connections for each in reports),
        "received_per_second": sum(each.received_per_second for each in reports),
        "delivered_per_second": sum(each.delivered_per_second for each in reports),
    }


def as_text(nodes: Sequence[Node]) -> str:
    """A line for each node below a head, in columns."""
    rows = [_HEAD, *map(_row, nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(node: Node) -> tuple[str, ...]:
    report = node.report
    if report is None:
        return (node.name, *["-"] * (len(_HEAD) - 1))
    state = "draining" if report.draining else "ready" if report.ready else "not ready"
    return (
        node.name,
        report.version,
        state,
        f"{report.connections:,} of {report.connections_limit:,}",
        f"{report.channels:,}",
        f"{report.received_per_second:,.0f}",
        f"{report.delivered_per_second:,.0f}",
        f"{report.event_loop_lag * 1000:,.0f}",
        f"down: {', '.join(report.redis_down)}" if report.redis_down else "up",
    )
