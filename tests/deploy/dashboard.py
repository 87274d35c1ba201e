"""The dashboard as its file has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.prometheus import RATE_INTERVAL

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"


@dataclass(frozen=True)
class Target:
    """A query, and how its series are named."""

    expression: str
    legend: str

    @property
    def query(self) -> str:
        """What Grafana would ask."""
        return self.expression.replace("$__rate_interval", RATE_INTERVAL)


@dataclass(frozen=True)
class Panel:
    """A graph, or the title of those below it, which has no targets. ``place``: x, y, width and height on the grid."""

    id: int
    title: str
    description: str
    unit: str
    place: tuple[int, int, int, int]
    targets: tuple[Target, ...]


def dashboard() -> dict[str, Any]:
    """The whole file."""
    found: dict[str, Any] = json.loads((FOLDER / "dashboards" / "gateway.json").read_text("utf-8"))
    return found


def panels() -> list[Panel]:
    """All of it, from above."""
    return [
        Panel(
            each["id"],
            each["title"],
            each.get("description", ""),
            each.get("fieldConfig", {}).get("defaults", {}).get("unit", ""),
            tuple(each["gridPos"][side] for side in ("x", "y", "w", "h")),
            tuple(Target(t["expr"], t["legendFormat"]) for t in each.get("targets", [])),
        )
        for each in dashboard()["panels"]
    ]
