"""WebKit, the engine of Safari, as Debian's WebKitGTK has it, driven by WebDriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.programs import cannot_build, require_toolchain
from tests.support.redis_server import free_port
from tests.support.waiting import until

_ADVICE: Final = "apt-get install webkit2gtk-driver xvfb"
_START_SECONDS: Final = 20.0
_EVALUATE: Final = """
const [script, done] = arguments;
(async () => (0, eval)(script))().then((value) => done({ value: value ?? null }), (error) => done({ error: String(error) }));
"""


class _Session:
    """A browser with a profile of its own: one driver drives one."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address
        self._current = ""
        self.path = ""

    async def ask(self, method: str, path: str, **body: Any) -> Any:
        """Give the driver a command; its answer."""
        given = body if method == "POST" else None
        async with self._http.request(method, self._address + self.path + path, json=given) as told:
            answer = (await told.json())["value"]
            assert told.status == 200, answer
            return answer

    async def begin(self, program: str) -> str:
        """Start the browser; its window."""
        options = {"binary": program, "args": ["--automation"]}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        found = await self.ask("POST", "/session", capabilities=capabilities)
        self.path = f"/session/{found['sessionId']}"
        self._current = str(await self.ask("GET", "/window"))
        return self._current

    async def in_window(self, handle: str, method: str, path: str, **body: Any) -> Any:
        """The same about one of its windows."""
        if self._current != handle:
            await self.ask("POST", "/window", handle=handle)
            self._current = handle
        return await self.ask(method, path, **body)

    async def close_window(self, handle: str) -> None:
        await self.in_window(handle, "DELETE", "/window")
        self._current = ""


class WebKitTab:
    """A window of WebKit."""

    def __init__(self, session: _Session, handle: str) -> None:
        self._session = session
        self._handle = handle

    async def go(self, url: str) -> None:
        await self._session.in_window(self._handle, "POST", "/url", url=url)

    async def back(self) -> None:
        await self._session.in_window(self._handle, "POST", "/back")

    async def reload(self) -> None:
        await self._session.in_window(self._handle, "POST", "/refresh")

    async def evaluate(self, script: str) -> Any:
        asked = {"script": _EVALUATE, "args": [script]}
        told = await self._session.in_window(self._handle, "POST", "/execute/async", **asked)
        assert "value" in told, told
        return told["value"]

    async def beside(self) -> WebKitTab:
        # A tab behind another one is hidden.
        asked = {"type": "window"}
        made = await self._session.in_window(self._handle, "POST", "/window/new", **asked)
        return WebKitTab(self._session, made["handle"])

    async def close(self) -> None:
        await self._session.close_window(self._handle)

    async def complaints(self) -> list[str]:
        return []  # its driver tells of none


class WebKit:
    """Opens profiles until the stack ends."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._driver = require_toolchain("WebKitWebDriver", "", _ADVICE)
        found = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
        if not found:
            cannot_build(f"MiniBrowser is not installed: {_ADVICE}")
        self._program = str(found[-1])

    async def open_profile(self) -> WebKitTab:
        """The window of a new browser."""
        home = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="webkit-", ignore_cleanup_errors=True)
        )
        port, display = free_port(), await self._stack.enter_async_context(_display())
        environment = {"DISPLAY": display, "HOME": home, "PATH": "/usr/bin:/bin"}
        command = (self._driver, f"--port={port}")
        await self._stack.enter_async_context(_running(*command, environment=environment))
        http = await self._stack.enter_async_context(aiohttp.ClientSession())
        session = _Session(http, f"http://127.0.0.1:{port}")

        async def listens() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return bool((await session.ask("GET", "/status"))["ready"])
            return False

        await until(listens, _START_SECONDS)
        handle = await session.begin(self._program)

        async def end() -> None:
            with contextlib.suppress(AssertionError, aiohttp.ClientError):  # closed by the test
                await session.ask("DELETE", "")

        self._stack.push_async_callback(end)
        return WebKitTab(session, handle)


@contextlib.asynccontextmanager
async def _display() -> AsyncIterator[str]:
    """A screen in memory, until the block ends; its name."""
    program = require_toolchain("Xvfb", "", _ADVICE)
    command = (program, "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp")
    async with _running(*command, environment={"PATH": "/usr/bin:/bin"}) as process:
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            number = (await process.stdout.readline()).decode().strip()
        yield f":{number}"


@contextlib.asynccontextmanager
async def _running(
    *command: str, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()
