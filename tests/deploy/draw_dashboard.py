"""Draws the dashboard for the docs: ``python -m tests.deploy.draw_dashboard`` writes docs/dashboard.svg.

Each panel has what its queries gave over a minute of two busy gateways. Grafana draws the same with more care.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.deploy.busy_gateways import busy_gateways
from tests.deploy.dashboard import Panel, Target, panels
from tests.support import svg
from tests.support.programs import require_program
from tests.support.prometheus import Prometheus, Series
from tests.support.topology import running_redis

FILE: Final = Path(__file__).parents[2] / "docs" / "dashboard.svg"
_WATCHED_SECONDS: Final = 60.0
_COLUMN: Final = 50
_ROW: Final = 26
_WIDTH: Final = 24 * _COLUMN
_COLOURS: Final = (
    *("#1f6f8b", "#c2571a", "#4f7a28", "#7b4f9d", "#b3303b"),
    *("#8a6d00", "#3a7ca5", "#6b7280"),
)
_MOST_NAMES: Final = 6
_UNITS: Final = {"s": " s", "bytes": "B", "Bps": "B/s", "cps": "/s", "percentunit": "%", "none": ""}
_GREY: Final = "#57606a"
_STYLE: Final = (
    f'width="{_WIDTH}" role="img" font-size="11" fill="#1b1f23" '
    "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""
)

Named = tuple[str, list[tuple[float, float]]]
"""A line of a graph: its name, and its values by time."""


async def watched(server: Prometheus) -> dict[int, list[Named]]:
    """What each panel shows of the last minute."""
    await asyncio.sleep(_WATCHED_SECONDS + 10)  # the first rates need some scrapes
    end = time.time()
    start = end - _WATCHED_SECONDS
    return {
        panel.id: [
            (named(target, each), [point for point in each.values if math.isfinite(point[1])])
            for target in panel.targets
            for each in await server.over(target.query, start, end)
        ]
        for panel in panels()
    }


def named(target: Target, series: Series) -> str:
    """The name of a series, as Grafana makes it of the legend."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), target.legend)


def drawn(shown: dict[int, list[Named]]) -> str:
    """An SVG of all panels in their places."""
    found = panels()
    height = _ROW * max(y + h for _, y, _, h in (panel.place for panel in found))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_STYLE}>',
        "<title>The dashboard, with two busy gateways</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#f6f8fa"/>',
    ]
    for panel in found:
        parts += _graph(panel, shown[panel.id]) if panel.targets else _question(panel)
    return "\n".join([*parts, "</svg>\n"])


def _question(panel: Panel) -> Iterator[str]:
    x, y, _, _ = panel.place
    yield svg.text(x * _COLUMN + 8, (y + 1) * _ROW - 7, panel.title, 15, bold=True)


def _graph(panel: Panel, lines: list[Named]) -> Iterator[str]:
    x, y, w, h = panel.place
    left, top = x * _COLUMN + 4, y * _ROW + 2
    width, height = w * _COLUMN - 8, h * _ROW - 6
    yield (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="3" fill="#ffffff" '
        'stroke="#d8dee4"/>'
    )
    yield svg.text(left + 8, top + 16, panel.title, 12, bold=True)
    names_height = 14 * math.ceil(min(len(lines), _MOST_NAMES) / 2)
    area = left + 48, top + 26, width - 58, height - 34 - names_height
    yield from _scale(panel.unit, lines, area)
    for number, (name, values) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        yield _line(values, _ceiling(lines), area, colour)
        if number < _MOST_NAMES:
            at = left + 8 + (number % 2) * (width / 2)
            base = top + height - names_height + 14 * (number // 2) + 6
            yield f'<rect x="{at}" y="{base - 7}" width="9" height="3" fill="{colour}"/>'
            yield svg.text(at + 13, base, name[:26], 10, colour=_GREY)


def _ceiling(lines: list[Named]) -> float:
    return max((value for _, values in lines for _, value in values), default=0.0) or 1.0


def _scale(unit: str, lines: list[Named], area: tuple[float, float, float, float]) -> Iterator[str]:
    left, top, width, height = area
    for part in (0.0, 0.5, 1.0):
        y = top + height * (1 - part)
        yield f'<path d="M{left:.1f} {y:.1f}h{width:.1f}" stroke="#e3e6e9"/>'
        figure = told(_ceiling(lines) * part, unit)
        yield svg.text(left - 4, y + 3, figure, 9, anchor="end", colour=_GREY)


def told(value: float, unit: str) -> str:
    """A figure with its unit, in three digits."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "s" and value > 7200:
        return f"{value / 3600:.3g} h"
    power = min(3, max(0, int(math.log10(value) // 3))) if value > 0 else 0
    return f"{value / 1000**power:.3g}{' ' * bool(power)}{' kMG'[power].strip()}{_UNITS[unit]}"


def _line(
    values: list[tuple[float, float]],
    ceiling: float,
    area: tuple[float, float, float, float],
    colour: str,
) -> str:
    left, top, width, height = area
    if not values:
        return ""
    # All panels end now.
    start = max(at for at, _ in values) - _WATCHED_SECONDS
    points = " ".join(
        f"{left + width * (at - start) / _WATCHED_SECONDS:.1f},"
        f"{top + height * (1 - max(0.0, value) / ceiling):.1f}"
        for at, value in values
    )
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as url:
        program = require_program("prometheus")
        async with busy_gateways(url, secrets.token_hex(4), program, Path(folder)) as server:
            FILE.write_text(drawn(await watched(server)), "utf-8")


if __name__ == "__main__":
    asyncio.run(_main())
