"""The clients behind the line: pages of a real Chromium with this protocol's clients, and Python receivers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from tests.browser.chromium import Browser, Page
from tests.browser.node_program import NodeProgram
from tests.networks.lab import SERVER, Lab
from tests.support.javascript import installed
from tests.support.programs import require_program
from tests.support.tokens import make_token

PAGE: Final = Path(__file__).with_name("page.html")
PAGE_PORT: Final = 8080


class Received(NamedTuple):
    """The message number ``n`` came to ``user`` ``at`` this time, seconds since 1970."""

    user: str
    n: int
    at: float


class Clients(ABC):
    """Some users of one kind. ``received`` grows with :meth:`look`."""

    def __init__(self, kind: str, users: Sequence[str]) -> None:
        self.kind = kind
        self.users = users
        self.received: list[Received] = []

    def tokens(self) -> Mapping[str, str]:
        """One for each user, for hours: what is measured here is no end of a token."""
        return {user: make_token(user) for user in self.users}

    @abstractmethod
    async def begin(self, url: str) -> None:
        """Let all of them connect; those that run end."""

    @abstractmethod
    async def look(self) -> None:
        """Take over what they have received since the last time."""


class Pages(Clients):
    """Clients in one page of the browser."""

    def __init__(self, kind: str, users: Sequence[str], browser: Browser) -> None:
        super().__init__(kind, users)
        self._browser = browser
        self._page: Page | None = None

    async def begin(self, url: str) -> None:
        if self._page is not None:
            await self._page.close()
        self._page = await self._browser.visit(f"http://{SERVER}:{PAGE_PORT}/")
        await self._page.wait("[data-state=ready]")
        words = ", ".join(map(json.dumps, (self.kind, url, self.tokens())))
        await self._page.evaluate(f"begin({words})")

    async def look(self) -> None:
        assert self._page is not None
        self.received += [Received(**each) for each in await self._page.evaluate("take()")]


class Receivers(Clients):
    """Receivers in one Python process."""

    def __init__(self, kind: str, users: Sequence[str], program: NodeProgram) -> None:
        super().__init__(kind, users)
        self._program = program
        self._listening: asyncio.Task[None] | None = None

    async def begin(self, url: str) -> None:
        assert self._listening is None, "a receiver has not come back"
        await self._program.write_line(json.dumps({"url": url, "tokens": self.tokens()}))
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                self.received.append(Received(**await self._program.line()))

    async def look(self) -> None:
        assert self._listening is not None
        if self._listening.done():
            await self._listening

    async def aclose(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def page_served() -> AsyncIterator[None]:
    """Serve the page of the clients to the other side of the line."""

    async def page(_: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, SERVER, PAGE_PORT).start()
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def browser(lab: Lab) -> AsyncIterator[Browser]:
    """A Chromium on the clients' side."""
    node, chromium = require_program("node"), require_program("chromium")
    command = lab.at_client(node, str(installed() / "browser.mjs"), chromium)
    async with NodeProgram.running(*command) as program:
        yield Browser(program)


@contextlib.asynccontextmanager
async def receivers(lab: Lab, users: Sequence[str]) -> AsyncIterator[Receivers]:
    """Python receivers there."""
    command = lab.at_client(sys.executable, "-m", "tests.networks.receivers")
    async with NodeProgram.running(*command) as program:
        clients = Receivers("receiver", users, program)
        try:
            yield clients
        finally:
            await clients.aclose()


class Asleep:
    """All programs of the clients, stopped as a laptop stops that sleeps."""

    def __init__(self, lab: Lab) -> None:
        self._ours = lab.processes_at_client()

    def __enter__(self) -> None:
        self._tell(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: signal.Signals) -> None:
        for each in self._ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)
