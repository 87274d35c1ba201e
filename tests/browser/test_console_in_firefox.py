"""The console in Firefox: a message's life until it is confirmed, by keyboard, and on a phone's width."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser.backend import Backend
from tests.browser.firefox import firefox
from tests.support.client import connected
from tests.support.processes import GatewayProcess
from tests.support.programs import require_toolchain
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]


@pytest.mark.long
@pytest.mark.timeout(90)
async def test_a_message_is_followed(gateway: GatewayProcess, backend: Backend, user: str) -> None:
    path = require_toolchain("firefox-esr", "", "apt-get install firefox-esr")
    channel = f"notifications/{user}"
    await until(lambda: "  Redis " in gateway.output)
    printed = re.search(r"Console +http://localhost:\d+/console(#\S+)", gateway.output)
    assert printed is not None
    async with connected(gateway.url, make_token(user)) as client:
        await client.subscribe(channel)
        async with firefox(path) as browser:
            await browser.resize(320, 700)
            await browser.go(
                f"{gateway.internal_url}/console{printed[1]}&view=/channel/{channel.replace('/', '%252F')}"
            )
            await browser.wait(
                "document.querySelector('#channel-events [data-kind=watching]') !== null"
            )
            id_ = await backend.notify(user, title="<b>Hello</b>", message="It works")
            life = f"document.querySelector('.life[data-id=\"{id_}\"]')"
            await browser.wait(f"{life}?.dataset.confirmed === '1'")
            assert "confirmed by 1 of 1" in await browser.evaluate(f"{life}.textContent")
            await browser.evaluate(f"{life}.querySelector('summary').focus()")
            await browser.type("\ue007")  # Enter
            await browser.wait(f"{life}.querySelector('details').open")
            assert await browser.evaluate("document.documentElement.scrollWidth") <= 320
            await browser.evaluate(f"location.hash = {json.dumps(f'#/user/{user}')}; 0")
            await browser.wait("document.querySelectorAll('.connection tbody tr').length === 1")
            await browser.evaluate("location.hash = '#/nodes'; 0")
            await browser.wait("document.querySelectorAll('tbody tr').length > 0")
            assert browser.errors == []
