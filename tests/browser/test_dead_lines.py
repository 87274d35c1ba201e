"""The client of docs/frontend.md in a real browser, on lines that go silent and say nothing of it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.browser.backend import Backend
from tests.browser.chromium import Browser, Page
from tests.faults.proxy import Greeting, Proxy
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

Open = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(gateway: GatewayProcess) -> AsyncIterator[Proxy]:
    proxy = Proxy(gateway.port)
    await proxy.start()
    yield proxy
    await proxy.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(
    js: Path, browser: Browser, proxy: Proxy, documented_module: str, user: str, session: str
) -> AsyncIterator[Open]:
    """``await open_page(quiet_ms=…, answer_ms=…)``: a page with the client, which connects through the proxy."""

    async def html(_request: web.Request) -> web.Response:
        return web.Response(
            text=(js / "documented.html").read_text("utf-8"), content_type="text/html"
        )

    code = (js.parent / documented_module).read_text("utf-8")

    async def module(_request: web.Request) -> web.Response:
        return web.Response(text=code, content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", html)
    app.router.add_get("/documented.mjs", module)
    pages: list[Page] = []
    async with TestServer(app, host="127.0.0.1") as server:

        async def open_page(*, quiet_ms: int, answer_ms: int) -> Page:
            given = {
                "address": f"ws://127.0.0.1:{proxy.port}",
                "token": make_token(user, [f"run-results/{session}"]),
                "sessionId": session,
                "userId": user,
                "quietMs": quiet_ms,
                "answerMs": answer_ms,
            }
            page = await browser.visit(f"http://127.0.0.1:{server.port}/#{urlencode(given)}")
            pages.append(page)
            return page

        yield open_page
        for page in pages:
            await page.close()


def happened(event: str) -> str:
    return f"[data-event={event}]"


async def test_a_dead_line_is_noticed_before_its_socket_says_that_it_is_closed(
    open_page: Open, proxy: Proxy, backend: Backend, user: str
) -> None:
    page = await open_page(quiet_ms=1000, answer_ms=500)
    await page.wait(happened("subscribed"), 2)
    await backend.notify(user, title="before", message="…")
    await page.wait(happened("notification"), 1)
    for link in proxy.links:
        link.freeze()
    await backend.notify(user, title="meanwhile", message="…")
    await page.wait(happened("connected"), 2)
    await page.wait(happened("notification"), 2)
    titles = await page.evaluate(
        "[...document.querySelectorAll('[data-event=notification]')].map((item) => JSON.parse(item.textContent).title)"
    )
    assert titles == ["before", "meanwhile"]
    assert await page.texts(happened("socket-closed")) == []


async def test_a_handshake_that_nobody_answers_is_given_up(open_page: Open, proxy: Proxy) -> None:
    proxy.greeting = Greeting.SILENCE
    page = await open_page(quiet_ms=500, answer_ms=500)
    await until(lambda: proxy._tasks)  # it has begun
    proxy.greeting = Greeting.SERVE
    await page.wait(happened("connected"), 1)


async def test_a_line_is_asked_at_once_when_the_network_is_back(open_page: Open) -> None:
    page = await open_page(quiet_ms=600_000, answer_ms=500)
    await page.wait(happened("subscribed"), 2)
    assert await page.texts(happened("heartbeat")) == []
    await page.evaluate("dispatchEvent(new Event('online')) && null")
    await page.wait(happened("heartbeat"), 1)
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange')) && null")
    await page.wait(happened("heartbeat"), 2)


async def test_a_large_message_gets_through_a_slow_line(
    open_page: Open, proxy: Proxy, backend: Backend, user: str
) -> None:
    page = await open_page(quiet_ms=300, answer_ms=1000)
    await page.wait(happened("subscribed"), 2)
    proxy.down.bytes_per_second = 20_000
    # Nothing that compression could make small: 2 s on this line, and silent until it is complete.
    # The first attempt gives up after 1.3 s, the second would after 2.3, and the third after 4.3.
    await backend.notify(user, title="large", message=secrets.token_urlsafe(30_000))
    await page.wait(happened("notification"), 1)
