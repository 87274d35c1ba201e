"""The test page where something is odd: a narrow window, a refusal, an outage, a reload. It says what is the matter."""

from __future__ import annotations

import pytest
import redis.asyncio

from publisher.contract.keys import Keys
from tests.browser.backend import Backend
from tests.browser.chromium import ERROR, SUBSCRIBED, Browser, Page
from tests.support.processes import GatewayProcess
from tests.support.tokens import make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

DEMO = "run-results/demo"
LONG = "supercalifragilisticexpialidocious" * 4

# Which elements stick out, and how wide the page has become.
WIDTH = """(() => {
  const out = [...document.querySelectorAll('body *')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1);
  return { width: document.documentElement.scrollWidth, out: out.map((each) => each.id || each.className || each.tagName) };
})()"""

# A server that is never there, and time that passes at once.
OUTAGE = """(async () => {
  const { Connection } = await import('/dev/connection.js');
  globalThis.WebSocket = class {
    constructor() { queueMicrotask(() => this.onclose({ code: 1006, reason: '' })); }
  };
  const native = setTimeout;
  globalThis.setTimeout = (action) => native(action, 0);
  const told = [];
  return await new Promise((done) => {
    const connection = new Connection('ws://localhost/', 'token', {
      closed() {},
      state(name, details) {
        told.push(details ? [name, details.attempt, details.delay] : [name]);
        if (told.length === 40) done(told);
      },
    });
    connection.open();
  });
})()"""


async def is_no_wider_than(page: Page, width: int) -> None:
    found = await page.evaluate(WIDTH)
    assert found["out"] == []
    assert found["width"] <= width


@pytest.mark.parametrize("width", [320, pytest.param(390, marks=pytest.mark.long)])
async def test_nothing_sticks_out_of_a_narrow_window(
    width: int, gateway: GatewayProcess, browser: Browser, backend: Backend, user: str, session: str
) -> None:
    address = f"{gateway.url.replace('ws', 'http', 1)}/dev"
    page = await browser.visit(address, width=width, height=800)
    await page.wait("#commands li", 3)
    await is_no_wider_than(page, width)
    await page.close()

    user = f"{user}-{'long' * 10}"
    results = f"run-results/{session}"
    token = make_token(user, [results])  # not the demo's, which is all tests'
    page = await browser.open(gateway.url, token, width=width, height=800)
    await page.wait(SUBSCRIBED, 1)
    await is_no_wider_than(page, width)
    for channel in (f"notifications/{LONG}", LONG, results):
        await page.fill("#channel", channel)
        await page.click("#channel-form button")
    await page.wait(ERROR, 3)
    await page.wait(SUBSCRIBED, 2)
    await backend.notify(user, title=LONG, message=LONG, action=LONG)
    await backend.run(
        session, user, f"import sys; print('{LONG}'); sys.exit(print('{LONG}', file=sys.stderr))"
    )
    await backend.publisher("publish", f"notifications/{user}", f'{{"{LONG}": "{LONG}"}}')
    await page.wait("#feed .raw", 3)
    # All that may be seen at some time: what is folded up, and the notices of an outage.
    await page.evaluate(
        "document.querySelectorAll('details').forEach((each) => (each.open = true))"
    )
    await page.evaluate(
        "document.querySelectorAll('[hidden]').forEach((each) => (each.hidden = false))"
    )
    await is_no_wider_than(page, width)
    assert await page.complaints() == []
    await page.close()


async def test_an_outage_is_outlasted_with_pauses_of_half_a_minute_at_most(
    gateway: GatewayProcess, browser: Browser
) -> None:
    page = await browser.visit(f"{gateway.url.replace('ws', 'http', 1)}/dev")
    told = await page.evaluate(OUTAGE)
    assert [each for each in told if each[0] == "closed"] == []
    waits = [(attempt, delay / 1000) for _, attempt, delay in told[1::2]]
    assert waits == [(n, min(2 ** (n - 1), 30)) for n in range(1, 21)]
    await page.close()


@pytest.mark.parametrize(
    ("channel", "state"),
    [("no-channel", "invalid_channel"), (f"lessons/{'x' * 20_000}", "message_too_large")],
    ids=["invalid", "too long"],
)
async def test_a_channel_that_cannot_be_does_not_wait_for_ever(
    channel: str, state: str, gateway: GatewayProcess, browser: Browser, user: str
) -> None:
    page = await browser.open(gateway.url, make_token(user, [DEMO]))
    await page.wait(SUBSCRIBED, 2)
    await page.fill("#channel", channel)
    await page.click("#channel-form button")
    await page.wait(f"#channels [data-state={state}]", 1)
    assert await page.texts("#channels .why") == [state]
    await page.click(f"#channels [data-state={state}] button")
    await page.wait("#channels li", 2)
    assert await page.complaints() == []
    await page.close()


async def test_an_empty_feed_after_a_reload_says_why_and_how_to_fill_it(
    gateway: GatewayProcess, browser: Browser, backend: Backend, user: str
) -> None:
    token = make_token(user, [DEMO])
    page = await browser.open(gateway.url, token)
    await page.wait(SUBSCRIBED, 2)
    id_ = await backend.notify(user, title="Hello", message="…")
    await page.wait("#feed .notification", 1)
    await backend.confirmed(user, f"notifications/{user}", id_)
    await page.close()

    page = await browser.open(gateway.url, token)
    await page.wait(SUBSCRIBED, 2)
    await page.wait("#feed .notification", 0)
    await page.wait("#empty:visible", 1)
    assert "is not sent again" in await page.text("#empty")
    await page.click("#kept")
    await page.wait("#feed .notification", 1)
    await page.wait("#empty:visible", 0)
    assert await page.complaints() == []
    await page.close()


async def test_an_internal_error_is_explained(
    gateway: GatewayProcess, browser: Browser, redis_url: str, shared_prefix: str, user: str
) -> None:
    key = Keys(shared_prefix).log(f"notifications/{user}")
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set(key, "no log at all")
    page = await browser.open(gateway.url, make_token(user))
    await page.wait(f"[data-channel='notifications/{user}'][data-state=internal_error]", 1)
    assert "Its log says which" in await page.text(f"{ERROR}[data-code=internal_error]")
    await page.close()
