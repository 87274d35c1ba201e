"""The fan-out as a bar chart in SVG, drawn by hand: no library is worth its weight for a dozen bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tests.support import svg

_PANELS: Final = (
    ("fanout", "One message every 50 ms"),
    ("burst", "300 messages at once"),
)
_WIDTH: Final = 880
_LABELS: Final = 130
_FIGURES: Final = 60
_GAP: Final = 30
_TOP: Final = 66
_BAR: Final = 18
_STEP: Final = 28
_BELOW: Final = 62
_COLOURS: Final = {"gateway": "#1f6f8b", "floor": "#b8bec4"}
_GAP_STYLE: Final = 'stroke="#ffffff" stroke-width="4"'
_CUT: Final = 3
_PEER: Final = "#7d8a97"
_NAMES: Final = {"gateway": "this gateway", "floor": "floor: send(2) in C"}
_STYLE: Final = (
    f'width="{_WIDTH}" role="img" font-size="13" fill="#1b1f23" '
    "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""
)


def plot(results: dict[str, Any], machine: str, sockets: int) -> str:
    """An SVG of the CPU time per delivered message, by server; a panel for each kind of fan-out."""
    panels = [(kind, title) for kind, title in _PANELS if kind in results]
    # A peer may have failed after the first kind.
    whole = set.intersection(*(set(results[kind]) for kind, _ in panels))
    names = sorted(whole, key=lambda name: results[panels[0][0]][name]["us_per_delivery"])
    height = _TOP + _STEP * len(names) + _BELOW
    space = (_WIDTH - _LABELS - _FIGURES - _GAP * (len(panels) - 1)) / len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_STYLE}>',
        f"<title>Server CPU per delivered message, {sockets:,} sockets</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        svg.text(16, 24, f"Server CPU per delivered message, {sockets:,} sockets", 16, bold=True),
        *(
            svg.text(
                _LABELS - 8,
                _row(number),
                _NAMES.get(name, name),
                13,
                anchor="end",
                bold=name == "gateway",
            )
            for number, name in enumerate(names)
        ),
    ]
    for number, (kind, title) in enumerate(panels):
        left = _LABELS + number * (space + _GAP)
        costs = {name: results[kind][name]["us_per_delivery"] for name in names}
        parts += _panel(left, space - _FIGURES / 2, title, costs)
    parts.append(svg.text(16, height - 12, machine, 11, colour="#57606a"))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _panel(left: float, width: float, title: str, costs: dict[str, float]) -> Iterator[str]:
    highest = _highest(costs.values())
    step = _round_step(highest)
    top = step * math.ceil(highest / step)
    bottom = _TOP + _STEP * len(costs)
    yield svg.text(left, _TOP - 14, title, 13, bold=True)
    for tick in range(round(top / step) + 1):
        x = left + width * tick * step / top
        yield f'<path d="M{x:.1f} {_TOP - 4}V{bottom}" stroke="#e3e6e9"/>'
        yield svg.text(x, bottom + 14, f"{tick * step:g}", 11, anchor="middle", colour="#57606a")
    yield svg.text(
        left + width / 2,
        bottom + 30,
        "µs of CPU per delivery",
        11,
        anchor="middle",
        colour="#57606a",
    )
    for number, (name, cost) in enumerate(costs.items()):
        y = _TOP + _STEP * number + (_STEP - _BAR) / 2
        colour = _COLOURS.get(name, _PEER)
        length = min(width, max(1.0, width * cost / top))
        yield f'<rect x="{left:.1f}" y="{y:.1f}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>'
        if cost > top:  # cut off: a gap in the bar says so
            yield f'<path d="M{left + width - 26:.1f} {y + _BAR + 3:.1f}l8 -{_BAR + 6}" {_GAP_STYLE}/>'
        figure = f"{cost:.0f}" if cost > top else f"{cost:.2f}" if cost < 1 else f"{cost:.1f}"
        yield svg.text(left + length + 5, _row(number), figure, 12, bold=name == "gateway")


def _highest(costs: Iterable[float]) -> float:
    """Where the scale ends: one server many times slower would make all others look alike."""
    *others, slowest = sorted(costs)
    return others[-1] if others and slowest > _CUT * others[-1] else slowest


def _row(number: int) -> float:
    return _TOP + _STEP * number + _STEP / 2 + 4.5


def _round_step(top: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that makes three to seven of ``top``."""
    power = 10.0 ** math.floor(math.log10(top / 3))
    return next(
        power * factor for factor in (10, 5, 2, 1) if top / (power * factor) >= 3 or factor == 1
    )
