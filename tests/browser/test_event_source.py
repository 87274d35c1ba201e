"""The code of docs/without-websocket.md, as it stands, in a page of another origin: a browser's own ``EventSource``, and polling."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from publisher import AsyncPublisher
from tests.browser.chromium import Browser, Page
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

DOCUMENTED = Path(__file__).parents[2] / "docs" / "without-websocket.md"
STREAMING, POLLING = re.findall(
    r"^```js\n(.*?)^```$", DOCUMENTED.read_text("utf-8"), re.DOTALL | re.MULTILINE
)
ADDRESS = "http://localhost:3001"


@pytest_asyncio.fixture(loop_scope="session")
async def page_url() -> AsyncIterator[str]:
    """A page without anything."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body id=here>A page", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


async def run(browser: Browser, page_url: str, program: str, gateway: str, user: str) -> Page:
    """A page that runs the program; what it shows is in ``shown``."""
    assert program.count(ADDRESS) == 1
    program = program.replace(ADDRESS, gateway.replace("ws:", "http:"))
    program = program.replace("notifications/user-123", f"notifications/{user}")
    page = await browser.visit(page_url)
    await page.wait("#here")
    await page.evaluate(
        f"""void (() => {{
            window.shown = [];
            const show = (data) => shown.push(data);
            const token = {make_token(user)!r};
            (async () => {{ {program} }})()
                .catch((error) => window.failed = String(error));
        }})()"""
    )
    return page


async def shown(page: Page) -> Any:
    return await page.evaluate("window.failed || shown")


async def test_an_event_source_comes_back_by_itself_and_misses_nothing(
    redis_url: str, prefix: str, browser: Browser, page_url: str, user: str
) -> None:
    channel = f"notifications/{user}"
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        async with gateway_process(redis_url, prefix, allowed_origins=page_url) as gateway:
            await publisher.publish(channel, 1)
            page = await run(browser, page_url, STREAMING, gateway.url, user)

            async def has(count: int) -> bool:
                return bool(await shown(page) == list(range(1, count + 1)))

            await until(lambda: has(1))
            await publisher.publish(channel, 2)
            await until(lambda: has(2))
            await gateway.terminate()
        await publisher.publish(channel, 3)
        async with gateway_process(redis_url, prefix, port=gateway.port, allowed_origins=page_url):
            # Firefox gives up where it finds nobody, and the page comes with a stream of its own.
            await until(lambda: has(3), 20)
            await publisher.publish(channel, 4)
            await until(lambda: has(4))
        await page.close()


async def test_the_documented_loop_polls(
    redis_url: str, prefix: str, browser: Browser, page_url: str, user: str
) -> None:
    channel = f"notifications/{user}"
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:

        async def shows(number: int) -> None:
            """What is published is shown next."""
            await publisher.publish(channel, number)

            async def has() -> bool:
                return bool(await shown(page) == list(range(number + 1)))

            await until(has)

        async with gateway_process(redis_url, prefix, allowed_origins=page_url) as gateway:
            page = await run(browser, page_url, POLLING, gateway.url, user)
            for number in range(3):
                await shows(number)
            await gateway.terminate()
        # While nobody answers the loop goes on.
        async with gateway_process(redis_url, prefix, port=gateway.port, allowed_origins=page_url):
            await shows(3)
        await page.close()
