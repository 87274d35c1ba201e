"""A gateway that is killed, and comes back on the same port."""

from __future__ import annotations

import pytest

from publisher import AsyncPublisher
from tests.browser.backend import Backend
from tests.browser.chromium import SUBSCRIBED, Browser
from tests.browser.conftest import Start
from tests.support.processes import gateway_process
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

USERS = ("ann", "ben", "eve")


async def test_clients_come_back_and_get_what_they_missed(
    redis_url: str,
    prefix: str,
    start_client: Start,
    browser: Browser,
) -> None:
    backend = Backend(redis_url, prefix)

    async def notify_all(title: str) -> dict[str, int]:
        async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
            sent = [await publisher.notify(user, title=title, message="…") for user in USERS]
        return {user: published.id for user, published in zip(USERS, sent, strict=True)}

    async with gateway_process(redis_url, prefix, development=True) as gateway:
        plain = await start_client("plain", gateway.url, "ann", "demo")
        documented = await start_client("documented", gateway.url, "ben", "demo")
        page = await browser.open(gateway.url, make_token("eve", ["run-results/demo"]))
        await page.wait(SUBSCRIBED, 2)
        before = await notify_all("before")
        for user, id_ in before.items():
            await backend.confirmed(user, f"notifications/{user}", id_)
        await gateway.kill()

    await plain.event("close")
    await documented.event("close")
    await page.wait("body[data-state=waiting]")
    missed = await notify_all("missed")

    async with gateway_process(redis_url, prefix, port=gateway.port, development=True):
        for user, client in (("ann", plain), ("ben", documented)):
            await client.subscribed(["run-results/demo", f"notifications/{user}"])
        await page.wait(SUBSCRIBED, 2)
        live = await notify_all("live")
        for user, client in (("ann", plain), ("ben", documented)):
            ids = [message["id"] for message in await client.data_up_to(live[user])]
            assert ids == [before[user], missed[user], live[user]]
        ids = [message["id"] for message in await page.data(3)]
        assert ids == [before["eve"], missed["eve"], live["eve"]]
        assert await page.texts(".tag.late") == ["caught up"]
        await page.close()
