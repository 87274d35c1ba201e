"""Puts the figures of a run where readers see them: between markers in the pages, and as the plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.plot import plot
from tests.bench.report import comparison, table
from tests.support.documents import fill

PAGES = ("README.md", "docs/performance.md")
PLOT = Path("docs/fan-out.svg")


def document(told: dict[str, Any], root: Path) -> list[str]:
    """Write a run's tables into ``PAGES``, and its plot to ``PLOT``; returns what was written.

    A page has ``<!-- bench: table -->`` and ``<!-- bench: end -->`` around the gateway's figures,
    ``<!-- bench: comparison -->`` likewise around those of all servers.
    """
    results, machine = told["results"], told["machine"]
    parts = {
        "table": f"{machine}:\n\n{table(results)}",
        "comparison": f"{machine}{_versions(results)}:\n\n{comparison(results)}",
    }
    (root / PLOT).write_text(plot(results, machine, told["scale"]["sockets"]), "utf-8")
    written = [str(PLOT)]
    for name in PAGES:
        page = (root / name).read_text("utf-8")
        filled = page
        for part, text in parts.items():
            filled = fill(filled, "bench", part, text)
        if filled != page:
            (root / name).write_text(filled, "utf-8")
            written.append(name)
    return written


def _versions(results: dict[str, Any]) -> str:
    versions = results.get("versions", {})
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f" ({told})" if told else ""
