"""Pages in other browsers than Chromium, for the tests that are written for that: whatever can run scripts in a tab can do what they do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from tests.browser.chromium import Browser, Page
from tests.support.programs import leave_out
from tests.support.waiting import until

_WAIT_SECONDS: Final = 15.0


class Tab(Protocol):
    """A tab of a browser."""

    async def go(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""

    async def back(self) -> None:
        """Go back to the page before."""

    async def reload(self) -> None:
        """Load the page again."""

    async def evaluate(self, script: str) -> Any:
        """What a script gives in the page, awaited; something that JSON has."""

    async def beside(self) -> Tab:
        """Another tab of the same profile."""

    async def close(self) -> None:
        """Close it, as a person does."""

    async def complaints(self) -> list[str]:
        """What its console had to complain of, as far as the browser tells."""


class TabPage(Page):
    """A page in such a tab."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.name = str(id(tab))
        self.heartbeats = 0

    async def do(self, action: str, **details: Any) -> Any:
        """Do what tests/js/browser.mjs knows, as far as a tab can."""
        does: Callable[..., Awaitable[Any]] | None = {
            "wait": self._wait,
            "texts": self._texts,
            "go": self.tab.go,
            "back": self.tab.back,
            "reload": self.tab.reload,
            "evaluate": self.tab.evaluate,
            "complaints": self.tab.complaints,
            "close": self.tab.close,
        }.get(action)
        if does is None:
            leave_out(f"no driver of this browser has {action}")
        return await does(**details)

    async def _texts(self, selector: str) -> Any:
        found = f"document.querySelectorAll({json.dumps(selector)})"
        return await self.tab.evaluate(f"Array.from({found}, (each) => each.textContent)")

    async def _wait(self, selector: str, count: int | None) -> None:
        enough = 1 if count is None else count
        await until(lambda: self._has(selector, enough), _WAIT_SECONDS)
        found = len(await self._texts(selector))
        assert count in (None, found), f"{found} of {selector}, not {count}"

    async def _has(self, selector: str, count: int) -> bool:
        return len(await self._texts(selector)) >= count


class TabBrowser(Browser):
    """A browser made of such tabs; ``open_profile`` gives the first one of a new profile."""

    def __init__(self, open_profile: Callable[[], Awaitable[Tab]]) -> None:
        self._open_profile = open_profile

    async def visit(self, address: str, beside: Page | None = None, **_window: int) -> Page:
        """Open a page, in a profile of its own or in that of another page."""
        tab = (
            await beside.tab.beside() if isinstance(beside, TabPage) else await self._open_profile()
        )
        await tab.go(address)
        return TabPage(tab)
