"""The runbook as its readers have it: an entry for each alert."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"


def entry(alert: str) -> str:
    """What the runbook says of an alert, in one line and without the addresses of links."""
    return _entries()[alert]


@cache
def _entries() -> dict[str, str]:
    parts = re.split(r"^## (\w+)\n", FILE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], map(_plain, parts[1::2]), strict=True))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).split())
