"""docs/migration.md: the shims let code for Socket.IO and Pusher run as it was, and what comes after a move runs too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from publisher import AsyncPublisher
from tests.browser.chromium import Browser
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


Visit = Callable[[str], Any]


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


def backend(name: str, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the page has for a backend."""
    monkeypatch.setenv("PUBLISHER_REDIS_URL", redis_url)
    monkeypatch.setenv("PUBLISHER_REDIS_PREFIX", prefix)
    scope: dict[str, Any] = {}
    (program,) = shown(f"{name} backend")
    exec(compile(program, "migration.md", "exec"), scope)
    return scope


async def test_code_for_socket_io_goes_on(
    browser: Browser,
    serve: Callable[..., str],
    user: str,
    redis_url: str,
    shared_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (shim,), (use,) = shown("socket.io shim"), shown("socket.io use")
    assert len(shim.splitlines()) < LINES_OF_CODE
    scope = backend("socket.io", redis_url, shared_prefix, monkeypatch)
    # Before anybody is there: Socket.IO would have lost it.
    scope["emit"](f"notifications/{user}", "paid", {"order": 7})
    said = (
        "const said = [];\nfor (const each of ['connect', 'disconnect']) socket.on(each, () => said.push(each));\n"
        "const other = () => said.push('other');\nsocket.on('paid', other).off('paid', other);\n"
        "Object.assign(window, { socket, said });\n"
    )
    page = await browser.visit(serve(f"{shim}{use}{said}", []))
    await page.evaluate("new Promise((done) => setInterval(() => shown.length && done(), 10))")
    scope["emit"](f"notifications/{user}", "shipped", {"order": 7})
    scope["emit"](f"notifications/{user}", "paid", {"order": 8})
    await page.evaluate("new Promise((done) => setInterval(() => shown.length > 1 && done(), 10))")
    assert await page.evaluate("shown") == [{"order": 7}, {"order": 8}]
    assert await page.evaluate("socket.connected") is True
    refused = "(() => { try { socket.emit('x'); } catch (error) { return error.message; } })()"
    assert "fetch()" in await page.evaluate(refused)
    await page.evaluate("socket.disconnect()")
    assert await page.evaluate("said") == ["connect", "disconnect"]
    assert await page.evaluate("socket.connected") is False
    await page.close()
    scope["publisher"].close()


async def test_code_for_pusher_goes_on(
    browser: Browser,
    serve: Callable[..., str],
    user: str,
    redis_url: str,
    shared_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (shim,), (use,) = shown("pusher shim"), shown("pusher use")
    assert len(shim.splitlines()) < LINES_OF_CODE
    scope = backend("pusher", redis_url, shared_prefix, monkeypatch)
    channel = f"private-notifications-{user}"
    scope["trigger"](channel, "paid", {"order": 7})
    said = (
        "const said = [];\npusher.connection.bind('state_change', ({ current }) => said.push(current));\n"
        f"const again = pusher.subscribe('{channel}');\nObject.assign(window, {{ pusher, said, again }});\n"
    )
    page = await browser.visit(serve(f"{shim}{use}{said}", []))
    await page.evaluate("new Promise((done) => setInterval(() => shown.length && done(), 10))")
    scope["trigger"](channel, "shipped", {"order": 7})
    scope["trigger"](channel, "paid", {"order": 8})
    await page.evaluate("new Promise((done) => setInterval(() => shown.length > 1 && done(), 10))")
    assert await page.evaluate("shown") == [{"order": 7}, {"order": 8}]
    assert (await page.evaluate("said"))[-1] == "connected"
    assert await page.evaluate("again.name") == channel
    await page.evaluate(f"pusher.unsubscribe('{channel}')")
    await page.evaluate("pusher.disconnect()")
    assert (await page.evaluate("said"))[-1] == "disconnected"
    await page.close()
    scope["publisher"].close()


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
        await page.evaluate("new Promise((done) => setInterval(() => shown.length && done(), 10))")
        assert await page.evaluate("shown[0]") == {"order": 9}
        await page.close()
