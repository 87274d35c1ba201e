"""Whether a site hangs together, read from its own HTML: every link leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import posixpath
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_LOADED: Final = {
    ("img", "src"),
    ("script", "src"),
    ("link", "href"),
    ("source", "src"),
    ("iframe", "src"),
}


class _Seen(HTMLParser):
    """The ids of a page, and what it links to and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag, name) == ("a", "name"):
                self.ids[value or ""] += 1
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, name) in _LOADED:
                self.loads.append(value or "")


def broken(site: Path) -> list[str]:
    """What is wrong, a line each."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        seen = _Seen()
        seen.feed(path.read_text("utf-8"))
        pages[path.relative_to(site).as_posix()] = seen
    wrong = []
    for name, seen in pages.items():
        wrong += [f"{name}: two things have the id {each}" for each, n in seen.ids.items() if n > 1]
        for target in seen.loads:
            if urlsplit(target).netloc or not (site / _there(name, target)).is_file():
                wrong.append(f"{name}: {target} is loaded, and is not in the site")
        for target in seen.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = _there(name, parts.path) if parts.path else name
            if there not in pages:
                wrong.append(f"{name}: {target}: there is no such page")
            elif parts.fragment and unquote(parts.fragment) not in pages[there].ids:
                wrong.append(f"{name}: {target}: there is no such heading")
    return wrong


def _there(page: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(target)))
