"""The test page, in a headless Chromium."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from tests.browser.node_program import NodeProgram

SUBSCRIBED = "#channels [data-state=subscribed]"
CLOSED = "body[data-state=closed]"
ERROR = "#feed [data-type=error]"


@dataclass
class Page:
    """A tab."""

    program: NodeProgram
    name: str
    heartbeats: int = 0

    async def do(self, action: str, **details: Any) -> Any:
        """Do what tests/js/browser.mjs knows."""
        await self.program.tell(action, page=self.name, **details)
        answer = await self.program.line()
        assert "failed" not in answer, answer["failed"]
        return answer["done"]

    async def wait(self, selector: str, count: int | None = None) -> None:
        """Wait until it is there, ``count`` times if given."""
        await self.do("wait", selector=selector, count=count)

    async def click(self, selector: str) -> None:
        await self.do("click", selector=selector)

    async def fill(self, selector: str, text: str) -> None:
        await self.do("fill", selector=selector, text=text)

    async def texts(self, selector: str) -> list[str]:
        texts: list[str] = await self.do("texts", selector=selector)
        return texts

    async def text(self, selector: str) -> str:
        (text,) = await self.texts(selector)
        return text

    async def data(self, count: int) -> list[dict[str, Any]]:
        """The ``count`` data messages that it has got, oldest first, as they came over the wire."""
        await self.wait("#feed .raw", count)
        # The answer to a heartbeat comes behind everything that was sent before it.
        self.heartbeats += 1
        await self.click("#heartbeat")
        await self.wait("#feed [data-type=heartbeat]", self.heartbeats)
        messages = [json.loads(raw) for raw in reversed(await self.texts("#feed .raw"))]
        assert len(messages) == count
        return messages

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self.do("press", key=key)

    async def resize(self, width: int, height: int) -> None:
        """Give its window another size."""
        await self.do("resize", width=width, height=height)

    async def accessible(self) -> None:
        """Hold it against WCAG 2.2 A and AA, as far as a program can, in both colour schemes."""
        for dark in (False, True):
            told = await self.do("axe", dark=dark)
            assert told["found"] == [], told["found"]
            assert told["passed"] > 10

    async def evaluate(self, script: str) -> Any:
        """What a script gives in the page."""
        return await self.do("evaluate", script=script)

    async def complaints(self) -> list[str]:
        """What its console and network had to complain of."""
        complaints: list[str] = await self.do("complaints")
        return complaints

    async def close(self) -> None:
        await self.do("close")


class Browser:
    """A browser, in which each page has a profile of its own."""

    def __init__(self, program: NodeProgram) -> None:
        self._program = program

    async def open(self, url: str, token: str, query: str = "", **window: int) -> Page:
        """Open a gateway's test page with a token, and wait for nothing."""
        address = f"{url.replace('ws', 'http', 1)}/dev{query}#token={token}"
        return await self.visit(address, **window)

    async def visit(self, address: str, beside: Page | None = None, **window: int) -> Page:
        """Open a page, in a window of this ``width`` and ``height``, or in the profile of another page."""
        page = Page(self._program, secrets.token_hex(4))
        profile = {} if beside is None else {"beside": beside.name}
        await page.do("open", url=address, **profile, **window)
        return page
