"""A token in a cookie, in a real browser: it sends the cookie along for every page of the site, and only the list tells them apart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.browser.chromium import Browser, Page
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

COOKIE = "session"


class Site:
    """A page at an origin of its own; whoever logs in there gets a cookie that no script can read."""

    def __init__(self, server: TestServer) -> None:
        self.origin = f"http://127.0.0.1:{server.port}"
        self.seen = f"body[data-port='{server.port}']"

    @staticmethod
    async def page(request: web.Request) -> web.Response:
        page = web.Response(
            text=f"<!doctype html><body data-port={request.url.port}>A page",
            content_type="text/html",
        )
        if user := request.query.get("login"):
            page.set_cookie(COOKIE, make_token(user), httponly=True, samesite="Strict", path="/")
        return page


@pytest_asyncio.fixture(loop_scope="session")
async def sites() -> AsyncIterator[tuple[Site, Site]]:
    """Two origins of one site: cookies do not tell ports apart."""
    app = web.Application()
    app.router.add_get("/", Site.page)
    other = web.Application()
    other.router.add_get("/", Site.page)
    async with TestServer(app) as first, TestServer(other) as second:
        yield Site(first), Site(second)


async def logged_in(browser: Browser, site: Site, user: str) -> Page:
    page = await browser.visit(f"{site.origin}/?login={user}")
    await page.wait(site.seen)
    assert await page.evaluate("document.cookie") == ""
    return page


async def go(page: Page, site: Site) -> None:
    """Follow a link, in the same tab of the same browser."""
    await page.evaluate(f"void setTimeout(() => location.assign({json.dumps(site.origin)}), 0)")
    await page.wait(site.seen)


async def first_message(page: Page, gateway: GatewayProcess) -> Any:
    """What a WebSocket that names no token is told first, or how it ends before that."""
    return await page.evaluate(
        f"""new Promise((tell) => {{
            const socket = new WebSocket({json.dumps(gateway.url)});
            socket.onmessage = ({{data}}) => tell(JSON.parse(data));
            socket.onclose = ({{code}}) => tell({{type: 'closed', code}});
        }})"""
    )


async def test_a_cookie_lets_in_the_page_that_is_listed_and_no_other_of_the_same_site(
    redis_url: str, prefix: str, browser: Browser, sites: tuple[Site, Site], user: str
) -> None:
    ours, foreign = sites
    async with (
        gateway_process(
            redis_url, prefix, jwt_cookie=COOKIE, allowed_origins=ours.origin
        ) as gateway,
        gateway_process(
            redis_url, prefix, jwt_cookie=COOKIE, allowed_origins=f"{ours.origin},{foreign.origin}"
        ) as lenient,
    ):
        page = await logged_in(browser, ours, user)
        said = await first_message(page, gateway)
        assert (said["type"], said["userId"]) == ("connected", user)

        await go(page, foreign)
        assert await first_message(page, gateway) == {"type": "closed", "code": 1006}
        assert f"reason=origin address=127.0.0.1 origin={foreign.origin}\n" in gateway.output
        # The browser did send the cookie: nothing but the list has kept this page out.
        assert (await first_message(page, lenient))["userId"] == user

        await go(page, ours)
        assert (await first_message(page, gateway))["userId"] == user
        await page.close()


async def test_without_the_setting_no_cookie_lets_anybody_in(
    redis_url: str, prefix: str, browser: Browser, sites: tuple[Site, Site], user: str
) -> None:
    ours, _ = sites
    async with gateway_process(redis_url, prefix, allowed_origins=ours.origin) as gateway:
        page = await logged_in(browser, ours, user)
        assert (await first_message(page, gateway))["code"] == "token_missing"
        await page.close()
