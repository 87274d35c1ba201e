"""What ``gateway top`` shows of the nodes, as cells of text and as JSON; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from publisher import Node

Row: TypeAlias = tuple[str, ...]

HEAD: Final[Row] = (
    *("NODE", "VERSION", "STATE", "CONNECTIONS", "CHANNELS", "IN/S", "OUT/S", "LAG MS", "REDIS"),
)
_LEFT_OUT: Final = ("VERSION", "CHANNELS", "IN/S", "OUT/S", "LAG MS", "CONNECTIONS", "REDIS")
"""In a narrow terminal, one after the other."""

BETWEEN: Final = 2
"""Spaces between two columns."""

GONE: Final = "gone"
UNKNOWN: Final = "-"


def as_json(nodes: Sequence[Node]) -> dict[str, Any]:
    """All nodes by name, each with its report (``null`` for one that has not said anything), and their sums."""
    return {"nodes": [asdict(node) for node in nodes], **sums(nodes)}


def sums(nodes: Sequence[Node]) -> dict[str, float]:
    """Of those that have said something."""
    reports = [node.report for node in nodes if node.report is not None]
    return {
        "connections": sum(each.connections for each in reports),
        "received_per_second": sum(each.received_per_second for each in reports),
        "delivered_per_second": sum(each.delivered_per_second for each in reports),
    }


def as_text(nodes: Sequence[Node]) -> str:
    """A line for each node below a head, in columns."""
    lines = [HEAD, *map(row, nodes)]
    widths = _widths(lines)
    return "\n".join(
        (" " * BETWEEN)
        .join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        .rstrip()
        for line in lines
    )


def fitting(rows: Sequence[Row], columns: int) -> list[int]:
    """Which columns of ``rows`` a terminal has room for; name and state are always among them.

    Args:
        rows: without the head.
        columns: characters in a line of the terminal.
    """
    widths = _widths([HEAD, *rows])
    left = list(range(len(HEAD)))
    for name in _LEFT_OUT:
        if sum(widths[each] for each in left) + BETWEEN * (len(left) - 1) <= columns:
            break
        left.remove(HEAD.index(name))
    return left


def row(node: Node) -> Row:
    """A node's cells. Whoever writes to Redis may write what moves a terminal's cursor: that is not shown."""
    report = node.report
    if report is None:
        return (_printable(node.name), *[UNKNOWN] * (len(HEAD) - 1))
    return (
        _printable(node.name),
        _printable(report.version),
        "draining" if report.draining else "ready" if report.ready else "not ready",
        f"{report.connections:,} of {report.connections_limit:,}",
        f"{report.channels:,}",
        f"{report.received_per_second:,.0f}",
        f"{report.delivered_per_second:,.0f}",
        f"{report.event_loop_lag * 1000:,.0f}",
        _printable(f"down: {', '.join(report.redis_down)}") if report.redis_down else "up",
    )


def row_of_gone(name: str) -> Row:
    """The cells of a node that is not there any more."""
    rest = (GONE if each == "STATE" else UNKNOWN for each in HEAD[1:])
    return (_printable(name), *rest)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _widths(rows: Sequence[Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
