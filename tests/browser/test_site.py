"""The static site in a browser: it reads well on a phone, finds words, and asks nobody else for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from docs.site.build import build
from tests.browser.chromium import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[str]:
    build(Path(__file__).parents[2], tmp_path)
    app = web.Application()
    app.router.add_static("/", tmp_path)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


async def test_a_page_on_a_phone_and_the_search(browser: Browser, site: str) -> None:
    page = await browser.visit(f"{site}/docs/protocol.html", width=320, height=640)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate("document.querySelector('nav details').open") is False
    await page.resize(width=1000, height=640)
    await page.wait("nav details[open]")
    await page.resize(width=320, height=640)
    await page.wait("nav details:not([open])")
    await page.fill("#search-words", "token_expired")
    await page.wait("#search-found a[href$='protocol.html#tokens']")
    found = "[...document.querySelectorAll('#search-found a')].map((each) => each.href).join()"
    assert "zh-CN" not in await page.evaluate(found)
    await page.fill("#search-words", "频道")
    await page.wait("#search-found a[href*='zh-CN']")
    await page.fill("#search-words", "rolling deploys")
    await page.wait("#search-found a")
    await page.click("#search-found a[href$='deployment.html#rolling-deploys']")
    await page.wait("#rolling-deploys")
    assert await page.complaints() == []
    await page.close()
    page = await browser.visit(f"{site}/docs/errors.html#token_expired", width=1000, height=640)
    await page.click("header [hreflang='zh-CN']")
    await page.wait("html[lang='zh-CN'] #token_expired:target")
    await page.close()
