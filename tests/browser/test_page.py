"""The test page of development mode, in a real browser."""

from __future__ import annotations

import pytest

from tests.browser.backend import Backend
from tests.browser.chromium import CLOSED, ERROR, SUBSCRIBED, Browser
from tests.browser.shapes import NOTIFICATION, is_notification, is_run_result
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

# What the page subscribes to by itself; the tests' users share it.
DEMO = "run-results/demo"


@pytest.fixture
def token(user: str) -> str:
    return make_token(user, [DEMO])


async def test_live_and_after_having_been_offline(
    gateway: GatewayProcess, browser: Browser, backend: Backend, user: str, token: str
) -> None:
    page = await browser.open(gateway.url, token)
    await page.wait(SUBSCRIBED, 2)
    first = await backend.run("demo", user, "print('Hello, World!')")
    second = await backend.notify(user, **NOTIFICATION)
    result, notification = await page.data(2)
    is_run_result(result, "demo", first, stdout="Hello, World!\n")
    is_notification(notification, user, second)
    assert await page.texts(".terminal .stdout") == ["Hello, World!\n"]
    assert await page.texts(".notification h3") == [NOTIFICATION["title"]]
    await backend.confirmed(user, DEMO, first)
    await backend.confirmed(user, f"notifications/{user}", second)
    assert await page.complaints() == []
    await page.close()

    third = await backend.run("demo", user, "raise SystemExit('no')", code=1)
    fourth = await backend.notify(user, **NOTIFICATION)
    hostile = "<img src=x onerror=alert(1)>"
    fifth = await backend.notify(user, title=hostile, message="…")

    page = await browser.open(gateway.url, token)
    await page.wait(SUBSCRIBED, 2)
    data = await page.data(3)
    (result,) = [message for message in data if message["channel"] == DEMO]
    is_run_result(result, "demo", third, stdout="", stderr="no\n", exit_code=1)
    notifications = [message for message in data if message["channel"] != DEMO]
    assert [message["id"] for message in notifications] == [fourth, fifth]
    is_notification(notifications[0], user, fourth)
    assert await page.texts(".notification h3") == [hostile, NOTIFICATION["title"]]
    assert await page.complaints() == []
    await page.close()


async def test_denied_channel_shows_the_error(
    gateway: GatewayProcess, browser: Browser, token: str
) -> None:
    page = await browser.open(gateway.url, token)
    await page.wait(SUBSCRIBED, 2)
    await page.fill("#channel", "notifications/somebody-else")
    await page.click("#channel-form button")
    await page.wait("[data-channel='notifications/somebody-else'][data-state=forbidden]")
    shown = await page.text(ERROR)
    assert "forbidden" in shown
    assert "Not allowed to subscribe to this channel" in shown
    await page.wait(SUBSCRIBED, 2)
    assert await page.complaints() == []
    await page.close()


async def test_invalid_token_shows_the_close_code(
    gateway: GatewayProcess, browser: Browser, user: str, token: str
) -> None:
    page = await browser.open(gateway.url, "nonsense")
    await page.wait(CLOSED)
    assert await page.text("#closing-code") == "Closed 1008"
    assert await page.text("#closing-reason") == "token_invalid"
    assert "token_invalid" in await page.text(ERROR)
    # Another token, pasted, and all is well.
    await page.fill("#token", token)
    await page.click("#connect")
    await page.wait(SUBSCRIBED, 2)
    assert await page.text("#user") == user
    assert await page.complaints() == []
    await page.close()


async def test_the_page_and_its_socket_are_below_the_path_of_the_gateway(
    redis_url: str, shared_prefix: str, browser: Browser, user: str, token: str
) -> None:
    settings = {"development": True, "path": "/realtime"}
    async with gateway_process(redis_url, shared_prefix, **settings) as gateway:
        page = await browser.open(f"{gateway.url}/realtime", token)
        await page.wait(SUBSCRIBED, 2)
        assert await page.text("#user") == user
        assert (await page.text("#address")).endswith("/realtime")
        assert await page.complaints() == []
        await page.close()


@pytest.mark.parametrize("query", ["", "?batch=true"])
async def test_large_message(
    query: str, gateway: GatewayProcess, browser: Browser, backend: Backend, user: str, token: str
) -> None:
    page = await browser.open(gateway.url, token, query)
    await page.wait(SUBSCRIBED, 2)
    assert await page.text("#compression") == "negotiated"
    await backend.notify(user, title="Large", message="all work and no play " * 500)
    await page.wait(".notification")
    assert await page.texts(".notification p") == ["all work and no play " * 500]
    assert await page.complaints() == []
    await page.close()


async def test_commands_can_be_pasted(
    gateway: GatewayProcess, browser: Browser, backend: Backend, user: str
) -> None:
    page = await browser.open(gateway.url, make_token(user))
    # The channel is not this user's until the command with --user has been run.
    await page.wait(f"[data-channel='{DEMO}'][data-state=forbidden]")
    for number in (1, 2, 3):
        await page.click(f"#commands li:nth-child({number}) button")
        await backend.execute("sh", "-c", await page.do("clipboard"))
    await page.wait("[data-type=notifications]", 2)
    assert await page.texts(".notification h3") == ["Hello"]
    assert await page.texts(".anything") == ['{\n  "any": "thing"\n}']
    # It was granted the session with the second command, and has subscribed by itself.
    await page.wait(SUBSCRIBED, 2)
    await page.wait(".terminal .stdout:text-is('42')")
    assert await page.complaints() == []
    await page.close()
