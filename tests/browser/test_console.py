"""The console of two gateways, in a real browser: what it tells is what happens, and what it does needs a key that may."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from publisher import AsyncPublisher, Outgoing
from tests.browser.backend import Backend
from tests.browser.chromium import SUBSCRIBED, Browser, Page
from tests.support.api import KEY, KEYS
from tests.support.client import connected
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

STATIC = Path(__file__).parents[2] / "gateway" / "web" / "static"
READER = "only-reader-key-of-the-tests-0123456789"
HOSTILE = "<img src=x onerror=alert(1)>/../'\"% ü"
OUT = """(() => {
  const out = [...document.querySelectorAll('body *')].filter((each) => each.getBoundingClientRect().right > innerWidth + 1);
  return { width: document.documentElement.scrollWidth, out: out.map((each) => each.id || each.className || each.tagName) };
})()"""

UNNAMED = "document.querySelectorAll(':is(table, tbody, tr, th, td):not([role])').length"


class Gateways(NamedTuple):
    first: GatewayProcess
    second: GatewayProcess
    publisher: AsyncPublisher


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateways(redis_url: str, shared_prefix: str) -> AsyncIterator[Gateways]:
    keys = KEYS | {"looks": {"key": READER, "scopes": ["read"]}}
    settings: dict[str, Any] = {"console": True, "api_keys": json.dumps(keys)}
    prefix = f"{shared_prefix}-console"
    async with (
        gateway_process(redis_url, prefix, node_name="gateway-a", **settings) as first,
        gateway_process(redis_url, prefix, node_name="gateway-b", **settings) as second,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        yield Gateways(first, second, publisher)
        for each in (first, second):
            assert "level=error" not in each.output


async def console(
    browser: Browser, gateways: Gateways, view: str, key: str = KEY, **window: int
) -> Page:
    """The console's view, opened with a key."""
    page = await browser.visit(f"{gateways.first.internal_url}/console{view}", **window)
    await page.fill("#key", key)
    await page.press("Enter")
    await page.wait("nav a[aria-current=page]")
    return page


def of(view: str, subject: str) -> str:
    return f"location.hash = '#/{view}/' + encodeURIComponent({json.dumps(subject)})"


async def test_all_nodes_are_shown_and_no_key_lets_nobody_in(
    gateways: Gateways, browser: Browser
) -> None:
    page = await browser.visit(f"{gateways.first.internal_url}/console")
    await page.fill("#key", "no-such-key")
    await page.click("#key-form button")
    await page.wait("#key-problem:text-is('no such key')")
    assert await page.evaluate("sessionStorage.length") == 0
    await page.fill("#key", READER)
    await page.click("#key-form button")
    await page.wait("tbody tr", 2)
    names = await page.texts("tbody th")
    assert [name.rpartition("-")[0] for name in names] == ["gateway-a", "gateway-b"]
    await page.wait("#state:text-is('2 of 2 nodes ready')")
    # A moment of another day is told with the day.
    module = "import(new URL('console/elements.js', location))"
    dated = await page.evaluate(f"{module}.then(({{ time }}) => time(86400e3 * 500).textContent)")
    assert "1971" in dated
    # A reload in the same tab asks for no key; who forgets it is asked again.
    await page.evaluate("location.reload()")
    await page.wait("tbody tr", 2)
    assert READER not in await page.evaluate("location.href + document.cookie")
    await page.click("#forget")
    await page.wait("#key")
    await page.accessible()
    # The browser tells each answer that is an error.
    complaints = await page.complaints()
    assert all("401" in each for each in complaints)
    await page.close()


async def test_a_user_s_connections_are_shown_until_they_are_ended(
    gateways: Gateways, browser: Browser, user: str
) -> None:
    user = f"{user}{HOSTILE}"
    channel = f"notifications/{user}"
    token = make_token(user)
    async with connected(gateways.first.url, token) as here:
        await here.subscribe(channel)
        page = await console(browser, gateways, "", READER)
        await page.evaluate(of("user", user))
        await page.wait(".connection", 1)
        async with connected(gateways.second.url, token) as there:
            await page.wait("#user-events [data-kind=connected]", 1)
            await there.subscribe(channel)
            await page.wait(".connection", 2)
            sent = (await gateways.publisher.publish(channel, 1)).id
            await page.wait(f"td[data-title='Confirmed up to'] code:text-is('{sent}') >> nth=1")
            assert await page.text("#user-title") == user
            # The key may look, and no more.
            await page.click(".connection[data-connection^=gateway-b] .action > button")
            await page.click("dialog[open] button[value=go]")
            await page.wait(".problem:has-text('scope_missing')")
            await page.close()

            page = await console(browser, gateways, "")
            await page.evaluate(of("user", user))
            await page.click(".connection[data-connection^=gateway-b] .action > button")
            await page.press("Escape")
            await page.click(".connection[data-connection^=gateway-b] .action > button")
            await page.fill("dialog[open] input", "come back later")
            await page.press("Enter")
            await there.data(1)
            await there.expect(type="error", code="disconnected", message="come back later")
            assert await there.expect_close() == (1008, "disconnected")
        await page.wait("#user-events [data-kind=disconnected]", 1)
        await page.wait("#connections > .connection:only-child")
        assert await page.complaints() == []
        await page.close()


async def test_a_message_is_followed_until_every_device_has_confirmed_it(
    gateways: Gateways, browser: Browser, user: str
) -> None:
    channel = f"notifications/{user}"
    token = make_token(user)
    earlier = (await gateways.publisher.publish(channel, {"html": HOSTILE})).id
    async with connected(gateways.first.url, token) as here, connected(gateways.second.url, token):
        await here.subscribe(channel)
        page = await console(browser, gateways, f"#/channel/{channel.replace('/', '%2F')}")
        await page.wait("#channel-events [data-kind=watching]")
        await page.wait(f".life[data-id='{earlier}']")
        await page.fill(".publish textarea", "{no JSON")
        await page.click(".publish button")
        await page.wait(".publish .problem")
        await page.fill(".publish textarea", json.dumps({"title": HOSTILE, "long": "x" * 5000}))
        await page.click(".publish button")
        life = f".life:not([data-id='{earlier}'])"
        await page.wait(f"{life}[data-confirmed='1']", 1)
        assert "confirmed by 1 of 1" in await page.text(f"{life} .outcome")
        await page.click(f"{life} summary")
        kinds = await page.evaluate(
            f'[...document.querySelectorAll("{life} .steps li")].map((each) => each.dataset.kind)'
        )
        assert kinds == ["published", "received", "written", "confirmed"]
        await page.wait(f"{life} .raw:has-text('characters)')")
        assert "<img src=x" in await page.text(f"{life} .raw")
        # Somebody comes later, and is sent what was missed.
        async with connected(gateways.second.url, token) as late:
            await late.subscribe(channel, since=earlier)
            await page.wait(f"{life} [data-kind=replayed]", 1)
            await page.wait("#channel-events [data-kind=replayed]", 1)
            await page.wait(f"{life}[data-confirmed='2']", 1)
        await page.click(f".life[data-id='{earlier}'] summary")
        await page.click(f".life[data-id='{earlier}'] button")
        await page.wait(f".life[data-id='{earlier}'] button:has-text('Confirmed by {user}')")
        assert await page.complaints() == []
        await page.close()


async def test_a_burst_does_not_freeze_the_page(
    gateways: Gateways, browser: Browser, session: str
) -> None:
    channel = f"run-results/{session}"
    async with connected(gateways.first.url, make_token("u", [channel])) as client:
        await client.subscribe(channel)
        page = await console(browser, gateways, f"#/channel/{channel.replace('/', '%2F')}")
        await page.wait("#channel-events [data-kind=watching]")
        await page.evaluate(
            "globalThis.longest = 0; let last = performance.now(); setInterval(() => { const now = performance.now();"
            " longest = Math.max(longest, now - last); last = now; }, 10); 0"
        )
        for _ in range(3):
            await gateways.publisher.publish_many(Outgoing(channel, n) for n in range(1000))
        newest = (await gateways.publisher.publish(channel, "last")).id
        await page.wait(f".life[data-id='{newest}'][data-confirmed='1']")
        assert await page.evaluate("document.querySelectorAll('.life').length") == 50
        assert await page.evaluate("document.querySelectorAll('#channel-events li').length") <= 200
        assert await page.evaluate("longest") < 1_000
        assert await page.complaints() == []
        await page.close()


@pytest.mark.parametrize("width", [320, 1280])
async def test_nothing_sticks_out_and_all_is_accessible(
    width: int, gateways: Gateways, browser: Browser, user: str
) -> None:
    channel = f"notifications/{user}-{'long' * 20}"
    user = channel.partition("/")[2]
    async with connected(gateways.first.url, make_token(user)) as client:
        await client.subscribe(channel)
        await gateways.publisher.publish(channel, {"long" * 20: "long" * 50})
        page = await console(browser, gateways, "", width=width, height=800)
        for view, subject, shown in (
            ("nodes", "", "tbody tr"),
            ("channels", "", f"tbody a:text-is('{channel}')"),
            ("channel", channel, ".life, #channel-events li"),
            ("users", "", "#user-form"),
            ("user", user, ".connection tbody tr"),
            ("act", "", ".grant"),
        ):
            await page.evaluate(of(view, subject))
            await page.wait(shown)
            await page.evaluate(
                "document.querySelectorAll('details').forEach((e) => (e.open = true))"
            )
            found = await page.evaluate(OUT)
            assert (found["out"] if width == 320 else []) == [], view
            assert found["width"] <= width, view
            if width > 320:
                await page.accessible()
            else:
                # The views' names are one line, and a table stays one for who hears it, whatever its looks.
                assert await page.evaluate("document.querySelector('nav').offsetHeight") < 40
                assert await page.evaluate(UNNAMED) == 0, view
        assert await page.complaints() == []
        await page.close()


async def test_all_is_reached_by_the_keyboard(
    gateways: Gateways, browser: Browser, user: str
) -> None:
    focused = "(document.activeElement.textContent || document.activeElement.id).trim()"
    page = await console(browser, gateways, "")
    await page.wait("tbody tr", 2)
    await page.evaluate("document.activeElement.blur()")
    # As after a reload: from the beginning of the page.
    await page.evaluate("document.querySelector('.skip').focus()")
    assert await page.evaluate(focused) == "Skip to the view"
    await page.press("Tab", "Tab", "Tab")
    assert await page.evaluate(focused) == "Users"
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await page.press("Enter")
    await page.wait("#user-form")
    # The new view has the focus, and its first field comes next.
    assert await page.evaluate("document.activeElement.id") == "view"
    await page.press("Tab")
    for letter in user:
        await page.press(letter)
    await page.press("Enter")
    await page.wait("#user-events [data-kind=watching]")
    assert await page.text("#user-title") == user
    assert await page.complaints() == []
    await page.close()


async def test_the_links_of_make_run_hold_the_key_and_nobody_else_is_given_it(
    gateway: GatewayProcess, browser: Browser, backend: Backend, user: str
) -> None:
    await until(lambda: "  Redis " in gateway.output)
    key = re.search(r"/dev#token=\S+&key=(\S+)", gateway.output)
    assert key is not None
    token = make_token(user, ["run-results/demo"])
    page = await browser.open(gateway.url, f"{token}&key={key[1]}")
    await page.wait(SUBSCRIBED, 2)
    assert await page.evaluate("location.hash") == f"#token={token}"
    id_ = await backend.notify(user, title="Hello", message="It works")
    await page.wait("#feed .notification", 1)
    await page.accessible()
    await page.click("#feed .follow")
    await page.wait(f".life[data-id='{id_}']")
    assert await page.text("#channel-title") == f"notifications/{user}"
    assert await page.evaluate("location.hash") == f"#/channel/notifications%2F{user}"
    # A reload finds the key in the tab, and another tab has to be given it.
    await page.evaluate("location.reload()")
    await page.wait(f".life[data-id='{id_}']")
    await page.evaluate("location.hash = '#key=no-such-key'")
    await page.wait("#key-problem:text-is('no such key')")
    await page.close()
    page = await browser.visit(f"{gateway.internal_url}/console")
    await page.wait("#key")
    printed = re.search(r"Console +http://localhost:\d+/console(#\S+)", gateway.output)
    assert printed is not None
    await page.evaluate(f"location.hash = {json.dumps(printed[1])}")
    await page.wait("tbody tr", 1)
    assert await page.evaluate("location.hash") == "#/nodes"
    await page.close()

    # However near somebody is, or is made to look by a proxy on the same machine, nothing that is served has the key.
    paths = ["console", *(f"console/{each.name}" for each in STATIC.iterdir() if each.is_file())]
    async with aiohttp.ClientSession() as session:
        for path in (*paths, "console/session", "v1/nodes", "v1/openapi.json"):
            async with session.get(f"{gateway.internal_url}/{path}") as answer:
                assert key[1] not in f"{answer.headers}{await answer.text()}", path


async def test_grants_are_given_and_taken(
    gateways: Gateways, browser: Browser, user: str, session: str
) -> None:
    channel = f"run-results/{session}"
    async with connected(gateways.second.url, make_token(user)) as client:
        await client.send({"type": "subscribe", "channel": channel})
        await client.expect(type="error", code="forbidden")
        page = await console(browser, gateways, "#/act")
        await page.fill(".grant [name=channel]", channel)
        await page.fill(".grant [name=user]", user)
        await page.click(".grant [value=grant]")
        await client.expect(type="granted", channel=channel)
        await client.subscribe(channel)
        await page.click(".grant [value=revoke]")
        await client.expect(type="unsubscribed", reason="revoked")
        await page.wait(".grant .outcome:has-text('Taken back')")
        await page.close()


async def test_who_asks_under_another_name_or_with_a_page_of_theirs_is_refused(
    gateways: Gateways,
) -> None:
    url = gateways.first.internal_url
    async with aiohttp.ClientSession() as session:
        for path in ("/console", "/console/console.js", "/v1/nodes"):
            headers = {"Host": "rebound.example", "Authorization": f"Bearer {KEY}"}
            async with session.get(url + path, headers=headers) as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (421, "host_unknown")
                assert "GATEWAY_CONSOLE_HOSTS" in error["message"]
                assert error["help"] == "docs/errors.md#host_unknown"
        # Prometheus and probes name the host as they like.
        async with session.get(f"{url}/readyz", headers={"Host": "pod.example"}) as answer:
            assert answer.status == 200
        async with session.get(f"{url}/console") as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with session.get(f"{url}/v1/nodes") as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "key_missing")


async def test_names_that_are_set_lead_to_the_console(redis_url: str, shared_prefix: str) -> None:
    settings = {
        "console": True,
        "console_hosts": "Console.example.org",
        "api_keys": json.dumps(KEYS),
    }
    async with gateway_process(redis_url, f"{shared_prefix}-names", **settings) as gateway:
        async with aiohttp.ClientSession() as session:
            for host, status in (
                ("console.example.org", 200),
                ("console.example.org:443", 200),
                ("CONSOLE.example.org.", 200),
                ("[::1]:9300", 200),
                ("192.0.2.7:9300", 200),
                ("localhost", 200),
                ("localhost.example.org", 421),
                ("127.0.0.1.example.org", 421),
            ):
                url = f"{gateway.internal_url}/console"
                async with session.get(url, headers={"Host": host}) as answer:
                    assert answer.status == status, host


async def test_the_edges_of_fields_are_seen_in_both_schemes() -> None:
    light, dark = re.findall(r":root \{(.*?)\n *\}", (STATIC / "page.css").read_text(), re.DOTALL)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+): #(\w+);", scheme))
        # WCAG 2.2, 1.4.11. What is written in them is looked at by axe.
        for around in ("card", "sunken"):
            assert contrast(colours["field"], colours[around]) >= 3


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        whole = colour if len(colour) == 6 else "".join(2 * each for each in colour)
        parts = [int(whole[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


async def test_no_file_of_the_pages_asks_anybody_else_or_writes_html() -> None:
    for file in STATIC.iterdir():
        if file.suffix in {".js", ".html"}:
            text = file.read_text("utf-8").replace("http://www.w3.org/", "")
            for forbidden in (
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "https://",
                "//cdn",
                "style=",
            ):
                assert forbidden not in text, (file.name, forbidden)
