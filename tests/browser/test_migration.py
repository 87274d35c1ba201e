"""docs/migration.md: the shims let code for Socket.IO and Pusher run as it was, and what comes after a move runs too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from publisher import AsyncPublisher
from tests.browser.chromium import Browser, Page
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")
LINES_OF_CODE = 60


def shown(name: str) -> list[str]:
    return re.findall(rf"<!-- tested: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)


@pytest_asyncio.fixture(loop_scope="session")
async def serve(gateway: GatewayProcess, user: str) -> AsyncIterator[Callable[..., str]]:
    """``serve(script, channels)`` is the address of a page in which the script runs."""
    scripts: list[str] = []

    async def index(_: web.Request) -> web.Response:
        html = "<!doctype html><link rel=icon href=data:,><script type=module src=page.js></script>"
        return web.Response(text=html, content_type="text/html")

    async def script(_: web.Request) -> web.Response:
        return web.Response(text=scripts[-1], content_type="text/javascript")

    app = web.Application()
    app.add_routes([web.get("/", index), web.get("/page.js", script)])
    async with TestServer(app) as server:

        def serve(text: str, channels: list[str]) -> str:
            http = gateway.url.replace("ws", "http", 1)
            given = (
                f"\nconst userId = '{user}', shown = [], show = (order) => shown.push(order);\n"
                f"const getToken = async () => '{make_token(user, channels)}';\n"
                "Object.assign(window, { shown });\n"
            )
            (imported,) = re.findall(r"^import .*\n", text, re.MULTILINE)
            rest = text.replace(imported, "")
            scripts.append(
                imported.replace("https://realtime.example.com", http)
                + given
                + rest.replace("wss://realtime.example.com", gateway.url)
            )
            return str(server.make_url("/"))

        yield serve


@pytest.fixture
def scope_of(
    redis_url: str, shared_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """``scope_of("pusher")`` is what the page has for a backend that came from there."""
    monkeypatch.setenv("PUBLISHER_REDIS_URL", redis_url)
    monkeypatch.setenv("PUBLISHER_REDIS_PREFIX", shared_prefix)
    scope: dict[str, Any] = {}

    def scope_of(name: str) -> dict[str, Any]:
        (program,) = shown(f"{name} backend")
        exec(compile(program, "migration.md", "exec"), scope)
        return scope

    yield scope_of
    scope["publisher"].close()


def program_of(name: str) -> str:
    """The shim, which has to be small, and a use of it."""
    (shim,), (use,) = shown(f"{name} shim"), shown(f"{name} use")
    assert len(shim.splitlines()) < LINES_OF_CODE
    return f"{shim}{use}"


async def has_shown(page: Page, count: int) -> None:
    """Wait until the page has shown so many orders."""
    enough = f"shown.length >= {count}"
    await page.evaluate(f"new Promise((done) => setInterval(() => {enough} && done(), 10))")


async def test_code_for_socket_io_goes_on(
    browser: Browser,
    serve: Callable[..., str],
    user: str,
    scope_of: Callable[[str], dict[str, Any]],
) -> None:
    program, scope = program_of("socket.io"), scope_of("socket.io")
    # Before anybody is there: Socket.IO would have lost it.
    scope["emit"](f"notifications/{user}", "paid", {"order": 7})
    said = (
        "const said = [];\nfor (const each of ['connect', 'disconnect']) socket.on(each, () => said.push(each));\n"
        "const other = () => said.push('other');\nsocket.on('paid', other).off('paid', other);\n"
        "Object.assign(window, { socket, said });\n"
    )
    page = await browser.visit(serve(f"{program}{said}", []))
    await has_shown(page, 1)
    scope["emit"](f"notifications/{user}", "shipped", {"order": 7})
    scope["emit"](f"notifications/{user}", "paid", {"order": 8})
    await has_shown(page, 2)
    assert await page.evaluate("shown") == [{"order": 7}, {"order": 8}]
    assert await page.evaluate("socket.connected") is True
    refused = "(() => { try { socket.emit('x'); } catch (error) { return error.message; } })()"
    assert "fetch()" in await page.evaluate(refused)
    await page.evaluate("socket.disconnect()")
    assert await page.evaluate("said") == ["connect", "disconnect"]
    assert await page.evaluate("socket.connected") is False
    await page.close()


async def test_code_for_pusher_goes_on(
    browser: Browser,
    serve: Callable[..., str],
    user: str,
    scope_of: Callable[[str], dict[str, Any]],
) -> None:
    program, scope = program_of("pusher"), scope_of("pusher")
    channel = f"private-notifications-{user}"
    scope["trigger"](channel, "paid", {"order": 7})
    said = (
        "const said = [];\npusher.connection.bind('state_change', ({ current }) => said.push(current));\n"
        f"const again = pusher.subscribe('{channel}');\nObject.assign(window, {{ pusher, said, again }});\n"
    )
    page = await browser.visit(serve(f"{program}{said}", []))
    await has_shown(page, 1)
    scope["trigger"](channel, "shipped", {"order": 7})
    scope["trigger"](channel, "paid", {"order": 8})
    await has_shown(page, 2)
    assert await page.evaluate("shown") == [{"order": 7}, {"order": 8}]
    assert (await page.evaluate("said"))[-1] == "connected"
    assert await page.evaluate("again.name") == channel
    await page.evaluate(f"pusher.unsubscribe('{channel}')")
    await page.evaluate("pusher.disconnect()")
    assert (await page.evaluate("said"))[-1] == "disconnected"
    await page.close()


async def test_what_comes_after_a_move_runs(
    browser: Browser, serve: Callable[..., str], user: str, redis_url: str, shared_prefix: str
) -> None:
    programs = shown("after")
    assert len(programs) == 4
    # In blocks of their own, for each names its client the same.
    script = "import { Realtime } from 'https://realtime.example.com/client.js';\n" + "".join(
        f"{{\n{each.replace('orders/7', f'run-results/{user}')}}}\n" for each in programs
    )
    async with AsyncPublisher.from_url(redis_url, prefix=shared_prefix) as publisher:
        for channel in (f"notifications/{user}", f"run-results/{user}"):
            await publisher.publish(channel, {"order": 9})
        page = await browser.visit(serve(script, [f"run-results/{user}"]))
        await has_shown(page, 1)
        assert await page.evaluate("shown[0]") == {"order": 9}
        await page.close()
