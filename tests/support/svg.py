"""Pieces of the drawings in the documentation."""

from __future__ import annotations

from html import escape


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    *,
    anchor: str = "start",
    bold: bool = False,
    colour: str = "#1b1f23",
) -> str:
    """A line of text; ``anchor`` is the part of it that stands at ``x``."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}"{weight}>{escape(words)}</text>'
    )
