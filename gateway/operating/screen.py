"""How ``gateway top`` looks: the nodes below one line about all, in what room there is."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.operating.nodes_table import BETWEEN, GONE, HEAD, Row, fitting, sums
from gateway.operating.watched import Watched

_STYLES: Final = {"not ready": "bold red", "draining": "yellow", GONE: "dim"}
"""Of a state, and of the whole line; what is as it should be has none."""

_LINES_AROUND: Final = 4
"""Lines for all, the head of the table, how many are not shown, and the keys."""


def screen(watched: Watched, now: float, columns: int, lines: int) -> RenderableType:
    """What is to be shown.

    Args:
        watched: what is known of the nodes.
        now: by the clock of ``watched``.
        columns: characters in a line of the terminal.
        lines: of the terminal.
    """
    rows = watched.rows()
    room = max(1, lines - _LINES_AROUND)
    hidden = len(rows) - room
    parts: list[RenderableType] = [_about_all(watched, now), _table(rows[:room], columns)]
    if hidden > 0:
        parts.append(_line(f"and {hidden} more", "dim"))
    parts.append(_line(f"q: quit   s: sort (by {watched.order})", "dim"))
    return Group(*parts)


def _about_all(watched: Watched, now: float) -> Text:
    if watched.asked is None:
        return _line(watched.problem or "asking Redis", "bold red" if watched.problem else "")
    if watched.problem is not None:
        return _line(f"as of {now - watched.asked:.0f} s ago: {watched.problem}", "bold red")
    total, number = sums(watched.nodes), len(watched.nodes)
    return _line(
        f"{number} {'gateway' if number == 1 else 'gateways'}   {total['connections']:,} connections   "
        f"{total['received_per_second']:,.0f} in/s   {total['delivered_per_second']:,.0f} out/s",
        "bold",
    )


def _table(rows: list[Row], columns: int) -> Table:
    shown = fitting(rows, columns)
    table = Table(box=None, padding=(0, BETWEEN, 0, 0), pad_edge=False, header_style="bold")
    for each in shown:
        table.add_column(HEAD[each], no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(row[each]) for each in shown), style=_style(row))
    return table


def _style(row: Row) -> str:
    if row[HEAD.index("REDIS")].startswith("down"):
        return "bold red"
    return _STYLES.get(row[HEAD.index("STATE")], "")


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
