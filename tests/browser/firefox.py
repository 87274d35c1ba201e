"""A headless Firefox, driven by WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/), which it speaks by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

_START_SECONDS = 30.0
_WAIT_SECONDS = 15.0


class Firefox:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._tab = ""
        self.errors: list[str] = []
        """What the pages' console and scripts had to complain of."""

    async def begin(self) -> None:
        """Begin the session, and open the tab."""
        await self.ask("session.new", capabilities={})
        await self.ask("session.subscribe", events=["log.entryAdded"])
        found = await self.ask("browsingContext.create", type="tab")
        self._tab = found["context"]

    async def ask(self, method: str, **parameters: Any) -> Any:
        """Give a command; its result."""
        number = next(self._numbers)
        await self._socket.send_str(
            json.dumps({"id": number, "method": method, "params": parameters})
        )
        async with asyncio.timeout(_WAIT_SECONDS):
            while (told := json.loads((await self._socket.receive()).data)).get("id") != number:
                if told.get("method") == "log.entryAdded" and told["params"]["level"] == "error":
                    self.errors.append(told["params"]["text"])
        assert told["type"] == "success", told
        return told["result"]

    async def go(self, url: str) -> None:
        """Open a page."""
        await self.ask("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def resize(self, width: int, height: int) -> None:
        """Give the tab a size."""
        size = {"width": width, "height": height}
        await self.ask("browsingContext.setViewport", context=self._tab, viewport=size)

    async def evaluate(self, script: str) -> Any:
        """What a script gives in the page; a string, a number or a boolean."""
        told = await self.ask(
            "script.evaluate",
            expression=script,
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert told["type"] == "success", told
        return told["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Wait until a script gives something true."""
        await self.evaluate(
            f"""new Promise((done, failed) => {{
              const given_up = setTimeout(() => failed(new Error({json.dumps(condition)})), 10000);
              const look = () => ({condition}) ? (clearTimeout(given_up), done()) : requestAnimationFrame(look);
              look();
            }})"""
        )

    async def type(self, *keys: str) -> None:
        """Press keys, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        await self.ask("input.performActions", context=self._tab, actions=[source])


class FirefoxTab:
    """A tab of a profile within it."""

    def __init__(self, browser: Firefox, profile: str, tab: str) -> None:
        self._browser = browser
        self._profile = profile
        self._tab = tab

    @classmethod
    async def opened(cls, browser: Firefox) -> FirefoxTab:
        """The first one of a new profile."""
        made = await browser.ask("browser.createUserContext")
        return await cls._open(browser, made["userContext"])

    @classmethod
    async def _open(cls, browser: Firefox, profile: str) -> FirefoxTab:
        # A tab behind another one is hidden.
        made = await browser.ask("browsingContext.create", type="window", userContext=profile)
        return cls(browser, profile, made["context"])

    async def beside(self) -> FirefoxTab:
        return await self._open(self._browser, self._profile)

    async def go(self, url: str) -> None:
        await self._browser.ask(
            "browsingContext.navigate", context=self._tab, url=url, wait="complete"
        )

    async def back(self) -> None:
        await self._browser.ask("browsingContext.traverseHistory", context=self._tab, delta=-1)

    async def reload(self) -> None:
        await self._browser.ask("browsingContext.reload", context=self._tab, wait="complete")

    async def evaluate(self, script: str) -> Any:
        told = await self._browser.ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await (0, eval)({json.dumps(script)})) ?? null))()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert told["type"] == "success", told
        return json.loads(told["result"]["value"])

    async def close(self) -> None:
        await self._browser.ask("browsingContext.close", context=self._tab)

    async def complaints(self) -> list[str]:
        return self._browser.errors


@contextlib.asynccontextmanager
async def firefox(path: str) -> AsyncIterator[Firefox]:
    """Run it until the block ends."""
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path,
            *("--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"),
            env={"HOME": profile, "PATH": "/usr/bin:/bin", "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(profile),
            start_new_session=True,
        )
        draining: asyncio.Task[bytes] | None = None
        try:
            assert process.stderr is not None
            url = await _address(process.stderr)
            draining = asyncio.create_task(process.stderr.read())
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"{url}/session", max_msg_size=0) as socket,
            ):
                browser = Firefox(socket)
                await browser.begin()
                yield browser
                await browser.ask("browser.close")
        finally:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                async with asyncio.timeout(5):
                    await process.wait()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if draining is not None:
                await draining


async def _address(output: asyncio.StreamReader) -> str:
    async with asyncio.timeout(_START_SECONDS):
        while line := (await output.readline()).decode():
            if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                return found[1]
    raise AssertionError("Firefox has ended, and has named no address")
