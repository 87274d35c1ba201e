from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from publisher import AsyncPublisher
from tests.browser.backend import Backend
from tests.browser.chromium import Browser
from tests.browser.documentation import make_module
from tests.browser.firefox import FirefoxTab, firefox
from tests.browser.node_program import NodeProgram
from tests.browser.tabs import TabBrowser
from tests.browser.webkit import WebKit
from tests.support import javascript
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.programs import require_program, require_toolchain
from tests.support.tokens import make_token


@pytest.fixture(scope="session")
def js() -> Path:
    """The folder with the JavaScript programs, its packages installed."""
    return javascript.installed()


@pytest.fixture(scope="session")
def shared_prefix() -> str:
    """The key prefix of the gateway that most tests share; each test has users of its own."""
    return f"browser-{secrets.token_hex(6)}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(
    redis_url: str, shared_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    data = tmp_path_factory.mktemp("data")
    development = {"development": True, "data_folder": data}
    async with gateway_process(redis_url, shared_prefix, **development) as process:
        yield process


@pytest.fixture(scope="session")
def backend(redis_url: str, shared_prefix: str) -> Backend:
    return Backend(redis_url, shared_prefix)


@pytest.fixture
def user() -> str:
    return f"user-{secrets.token_hex(4)}"


@pytest.fixture
def session() -> str:
    return f"session-{secrets.token_hex(4)}"


@pytest.fixture
def channel(session: str) -> str:
    return f"run-results/{session}"


@pytest_asyncio.fixture(loop_scope="session")
async def publisher(redis_url: str, shared_prefix: str) -> AsyncIterator[AsyncPublisher]:
    """To the gateway that most tests share."""
    async with AsyncPublisher.from_url(redis_url, prefix=shared_prefix) as publisher:
        yield publisher


# -- programs of tests/js ---------------------------------------------------------------------

Start = Callable[..., Awaitable[NodeProgram]]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command that runs a program of tests/js: Node, or what ``JS_RUNTIME`` names, with the ``WebSocket`` that it has of its own."""
    if name := os.environ.get("JS_RUNTIME"):
        monkeypatch.setenv("NATIVE", "1")
        return javascript.runtime(name)
    return (require_program("node"),)


@pytest_asyncio.fixture(loop_scope="session")
async def programs(js: Path, runtime: tuple[str, ...]) -> AsyncIterator[Start]:
    """``await programs("program.mjs", *arguments)``; what is started ends with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, *arguments: str) -> NodeProgram:
            return await stack.enter_async_context(
                NodeProgram.running(*runtime, str(js / name), *arguments)
            )

        yield start


@pytest.fixture
def documented_module(tmp_path: Path) -> str:
    return str(make_module(tmp_path))


@pytest.fixture
def start_client(programs: Start, documented_module: str) -> Start:
    """``await start_client(kind, url, user, session)``, with both channels subscribed.

    ``kind`` is ``plain``, the client of the wire contract, or ``documented``, that of docs/frontend.md.
    """

    async def start(kind: str, url: str, user: str, session: str) -> NodeProgram:
        token = make_token(user, [f"run-results/{session}"])
        channels = [f"run-results/{session}", f"notifications/{user}"]
        if kind == "plain":
            client = await programs("plain-client.mjs", url, token, *channels)
        else:
            client = await programs(
                "documented-client.mjs", documented_module, url, token, session, user
            )
        await client.subscribed(channels)
        return client

    return start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(js: Path) -> AsyncIterator[NodeProgram]:
    node = require_program("node")
    path = require_program("chromium")
    async with NodeProgram.running(node, str(js / "browser.mjs"), path) as program:
        yield program


@pytest_asyncio.fixture(loop_scope="session")
async def tab_browser() -> AsyncIterator[Browser]:
    """The one that ``BROWSER`` names."""
    async with contextlib.AsyncExitStack() as stack:
        if os.environ["BROWSER"] == "webkit":
            yield TabBrowser(WebKit(stack).open_profile)
        else:
            program = require_toolchain("firefox-esr", "", "apt-get install firefox-esr")
            running = await stack.enter_async_context(firefox(program))
            yield TabBrowser(partial(FirefoxTab.opened, running))


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Browser:
    """Chromium, or what ``BROWSER`` names: firefox or webkit."""
    if "BROWSER" in os.environ:
        other: Browser = request.getfixturevalue("tab_browser")
        return other
    return Browser(request.getfixturevalue("chromium"))
