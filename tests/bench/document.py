"""Puts the figures of a run where readers see them: between markers in the page, and as the plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.plot import plot
from tests.bench.report import comparison, table
from tests.support.documents import fill

PAGE = Path("docs/performance.md")
PLOT = Path("docs/fan-out.svg")


def document(told: dict[str, Any], root: Path) -> list[str]:
    """Write a run's tables into ``PAGE``, and its plot to ``PLOT``; returns what was written.

    The page has ``<!-- bench: table -->`` and ``<!-- bench: end -->`` around the gateway's figures,
    ``<!-- bench: comparison -->`` likewise around those of all servers.
    """
    results, machine = told["results"], told["machine"]
    parts = {
        "table": f"{machine}:\n\n{table(results)}",
        "comparison": f"{machine}{_versions(results)}:\n\n{comparison(results)}",
    }
    (root / PLOT).write_text(plot(results, machine, told["scale"]["sockets"]), "utf-8")
    page = (root / PAGE).read_text("utf-8")
    for part, text in parts.items():
        page = fill(page, "bench", part, text)
    (root / PAGE).write_text(page, "utf-8")
    return [str(PLOT), str(PAGE)]


def _versions(results: dict[str, Any]) -> str:
    versions = results.get("versions", {})
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f" ({told})" if told else ""
