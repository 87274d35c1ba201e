"""The test page over TLS of the gateway's own, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from publisher import AsyncPublisher
from tests.browser.chromium import SUBSCRIBED, Browser
from tests.support.certificates import Authority
from tests.support.processes import gateway_process
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),
]


async def test_a_page_is_served_by_https_and_connects_by_wss(
    browser: Browser, redis_url: str, prefix: str, tmp_path: Path, user: str
) -> None:
    own = Authority(tmp_path).sign("localhost", addresses=("127.0.0.1",))
    tls = {"tls_certificate": own.certificate, "tls_key": own.key}
    async with (
        gateway_process(redis_url, prefix, development=True, **tls) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        page = await browser.open(node.url, make_token(user, ["run-results/demo"]))
        await page.wait(SUBSCRIBED, 2)
        assert await page.evaluate("location.protocol") == "https:"
        await publisher.notify(user, title="Hello", message="World")
        (message,) = await page.data(1)
        assert message["data"] == {"title": "Hello", "message": "World"}
        assert await page.complaints() == []
        await page.close()
        assert f"  WebSocket   wss://localhost:{node.port}?token=" in node.output
        assert f"  https://localhost:{node.port}/dev#token=" in node.output
