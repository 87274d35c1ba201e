"""The JavaScript client in real pages: what is loaded again, put aside or offline, and tabs that share a connection."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from publisher import AsyncPublisher, Published
from tests.browser.chromium import Browser, Page
from tests.browser.tabs import TabPage
from tests.support.processes import GatewayProcess
from tests.support.programs import leave_out
from tests.support.tokens import make_token
from tests.support.waiting import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("chromium"),  # one browser is enough for a small machine
]

Visit = Callable[..., Awaitable[Page]]
TAKEN_OVER_SECONDS = 2
KEPT = {
    "session": "({...sessionStorage})",
    "localStorage": "({...localStorage})",
    "indexeddb": """\
new Promise((done) => {
  indexedDB.open('realtime-gateway').onsuccess = ({ target: { result: db } }) => {
    const reading = db.transaction('positions').objectStore('positions').getAll();
    reading.onsuccess = () => (db.close(), done(reading.result));
  };
})""",
}
BUSY_DATABASE = """\
(async () => {
  const request = indexedDB.open('realtime-gateway');
  await new Promise((resolve) => (request.onsuccess = resolve));
  const begun = request.result.transaction('positions', 'readwrite').objectStore('positions');
  const goOn = () => (begun.get(['']).onsuccess = goOn);
  goOn();
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (...given) {
    note('writing', null);
    return transaction.apply(this, given);
  };
})()"""
"""Whoever wants to write waits until the page is left."""
LEFT_WHILE_FORGETTING = """\
(async () => {
  const { indexeddb } = await import(`${new URLSearchParams(location.search).get('gateway')}/client/storage.js`);
  const open = async () => {
    const store = indexeddb('ws://gateway');
    const positions = await store.load('ann');
    return { save: (id) => store.save(new Map([['c/1', id]])), position: positions.get('c/1') };
  };
  const { save } = await open();
  await save(90);
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (...given) {
    const begun = transaction.apply(this, given);
    begun.abort();
    return begun;
  };
  for (const id of [undefined, 3]) await save(id);
  IDBDatabase.prototype.transaction = transaction;
  const found = [];
  for (const id of [4, 2]) {
    const next = await open();
    found.push(next.position);
    await next.save(id);
  }
  return [...found, (await open()).position, Object.keys(localStorage).filter((key) => key.endsWith(' ann'))];
})()"""
"""A transaction that is given up is what a page leaves behind."""
HANGS = "const end = Date.now() + 4000; while (Date.now() < end);"


WORKER = """\
import { Realtime } from 'GATEWAY/client.js';
import { indexeddb } from 'GATEWAY/client/storage.js';
import { share } from 'GATEWAY/client/share.js';

addEventListener('message', ({ data: { token, channel }, source }) => {
  const rt = new Realtime('GATEWAY', { token: async () => token, storage: indexeddb, share });
  rt.subscribe(channel, (data) => source.postMessage(data), { since: 0 });
});
"""


@pytest_asyncio.fixture(loop_scope="session")
async def visit(
    js: Path, browser: Browser, gateway: GatewayProcess, user: str, channel: str
) -> AsyncIterator[Visit]:
    """``await visit(beside=…, user=…, …)``: a page with the client, with the options that follow."""

    async def html(_request: web.Request) -> web.Response:
        text = (js / "client.html").read_text("utf-8")
        return web.Response(text=text, content_type="text/html")

    async def elsewhere(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html>elsewhere", content_type="text/html")

    async def worker(_request: web.Request) -> web.Response:
        text = WORKER.replace("GATEWAY", f"http://127.0.0.1:{gateway.port}")
        return web.Response(text=text, content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", html)
    app.router.add_get("/elsewhere", elsewhere)
    app.router.add_get("/worker.js", worker)
    pages: list[Page] = []
    async with TestServer(app, host="127.0.0.1") as server:

        async def visit(beside: Page | None = None, user: str = user, **options: Any) -> Page:
            given = {
                "gateway": f"http://127.0.0.1:{gateway.port}",
                "token": make_token(user, ["run-results/*"]),
                "channel": channel,
                "options": json.dumps(options),
            }
            address = f"http://127.0.0.1:{server.port}/?{urlencode(given)}"
            page = await browser.visit(address, beside)
            pages.append(page)
            return page

        yield visit
        for page in pages:
            if page.name not in closed:
                await page.close()
        closed.clear()


closed: set[str] = set()
"""Pages that a test has closed by itself."""


async def close(page: Page) -> None:
    closed.add(page.name)
    await page.close()


async def hang(page: Page) -> None:
    """Let it hang, as one that the browser has put aside: it keeps its lock, and says nothing."""
    if isinstance(page, TabPage):
        leave_out("the pages of this browser share a process, and would all hang")
    await page.evaluate(f"setTimeout(() => {{ {HANGS} }}) && 0")


async def happened(page: Page, event: str) -> list[Any]:
    return [json.loads(text) for text in await page.texts(f"[data-event={event}]")]


async def heard(page: Page, *data: Any, event: str = "data") -> None:
    """Wait until these messages were given to the page's code, and see that no other was."""
    await page.wait(f"[data-event={event}]", len(data))
    assert await happened(page, event) == [*data]


async def sockets(pages: list[Page]) -> int:
    return sum([len(await happened(page, "socket")) for page in pages])


async def places(publisher: AsyncPublisher, user: str) -> int:
    return len(await publisher.connections(user))


async def held(publisher: AsyncPublisher, user: str, count: int) -> None:
    """Wait until the user holds so many places."""

    async def so_many() -> bool:
        return await places(publisher, user) == count

    await until(so_many)


async def received_elsewhere(visit: Visit) -> None:
    """Let another device of the user have what was published, so that the gateway would not send it by itself."""
    other = await visit()
    await other.wait("[data-event=data]")
    await close(other)


async def go_elsewhere(page: Page, publisher: AsyncPublisher, user: str, url: str) -> None:
    """Leave the page, and wait for its farewell: the browser shows the next page before."""
    await page.do("go", url=url)
    await held(publisher, user, 0)


async def kept(page: Page, storage: str, published: Published) -> None:
    """Wait until it has the position behind a message: Firefox may end a page without a word when it is left."""

    async def has_it() -> bool:
        return str(published.id) in json.dumps(await page.evaluate(KEPT[storage]))

    await until(has_it)


async def miss_one(
    page: Page, visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    """Leave the page, let another device receive what comes meanwhile, and see that the page has it when it is loaded again."""
    address = await page.evaluate("location.href")
    await go_elsewhere(page, publisher, user, "about:blank")
    await publisher.publish(channel, "missed")
    await received_elsewhere(visit)
    await page.do("go", url=address)
    await heard(page, "missed")


# -- positions --------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["session", "indexeddb"])
async def test_a_page_that_is_loaded_again_misses_nothing_and_repeats_nothing(
    storage: str, visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    old = await publisher.publish(channel, "old")
    page = await visit(storage=storage)
    await heard(page, "old")
    await kept(page, storage, old)
    await miss_one(page, visit, publisher, user, channel)
    live = await publisher.publish(channel, "live")
    await heard(page, "missed", "live")
    assert await happened(page, "gap") == []
    await kept(page, storage, live)
    await page.do("reload")
    await page.wait("[data-event=subscribed]")
    last = await publisher.publish(channel, "last")
    await heard(page, "last")
    await kept(page, storage, last)

    async def only_there() -> bool:
        return await page.evaluate(KEPT["localStorage"]) == {}

    await until(only_there)


async def test_what_was_being_written_when_a_page_is_left_is_kept(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    page = await visit(storage="indexeddb")
    await page.wait("[data-event=subscribed]")
    await page.evaluate(BUSY_DATABASE)
    old = await publisher.publish(channel, "old")
    await heard(page, "old")
    await page.wait("[data-event=writing]")
    await kept(page, "localStorage", old)
    await miss_one(page, visit, publisher, user, channel)


async def test_behind_lost_messages_lower_ids_count_also_where_the_page_is_left_meanwhile(
    visit: Visit,
) -> None:
    page = await visit()
    assert await page.evaluate(LEFT_WHILE_FORGETTING) == [3, 4, 4, []]


@pytest.mark.parametrize("storage", ["session", "indexeddb"])
async def test_where_nothing_may_be_stored_it_works_without(
    storage: str, visit: Visit, publisher: AsyncPublisher, channel: str
) -> None:
    page = await visit(storage=storage, refuse=True)
    await publisher.publish(channel, "heard")
    await heard(page, "heard")
    assert [each for each in await page.complaints() if not each.startswith("asks ")] == []


async def test_a_service_worker_needs_nothing_on_demand(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    page = await visit()
    await publisher.publish(channel, "before")
    await heard(page, "before")
    given = json.dumps({"token": make_token(user, ["run-results/*"]), "channel": channel})
    await page.evaluate(f"""(async () => {{
      navigator.serviceWorker.addEventListener('message', ({{ data }}) => note('worker', data));
      navigator.serviceWorker.startMessages();
      await navigator.serviceWorker.register('/worker.js', {{ type: 'module' }});
      (await navigator.serviceWorker.ready).active.postMessage({given});
    }})()""")

    await publisher.publish(channel, "live")
    await heard(page, "before", "live", event="worker")


# -- pages that are put aside -----------------------------------------------------------------


async def test_a_page_that_is_left_gives_its_place_back_and_goes_on_when_it_is_shown_again(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    page = await visit()
    await publisher.publish(channel, "before")
    await heard(page, "before")
    elsewhere = await page.evaluate("new URL('/elsewhere', location).href")
    await go_elsewhere(page, publisher, user, elsewhere)
    await publisher.publish(channel, "meanwhile")
    await page.do("back")
    if os.environ.get("BROWSER") == "firefox":
        # It keeps no page there that had a WebSocket when it was left, and loads it again.
        await heard(page, "meanwhile")
        return
    await heard(page, "before", "meanwhile")
    # It was in the back/forward cache all the time.
    assert await happened(page, "shown") == [{"persisted": True}]
    assert [each["reason"] for each in await happened(page, "waiting")] == ["page_hidden"]


async def test_when_the_network_is_back_it_does_not_wait(
    visit: Visit, publisher: AsyncPublisher, channel: str
) -> None:
    page = await visit(backoff={"min": 600_000, "max": 600_000})
    await publisher.publish(channel, "before")
    await heard(page, "before")
    await page.do("offline", off=True)
    await page.evaluate("rt.connect()")
    await page.wait("[data-event=waiting]")
    await publisher.publish(channel, "meanwhile")
    # At least a second lies between two attempts.
    await page.evaluate("new Promise((done) => setTimeout(done, 1100))")
    await page.do("offline", off=False)
    await heard(page, "before", "meanwhile")


# -- tabs that share a connection -------------------------------------------------------------


async def test_five_tabs_use_one_place_and_each_hears_everything(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    tabs = [await visit(share=True)]
    await publisher.publish(channel, 1)
    await heard(tabs[0], 1)
    tabs += [await visit(tabs[0], share=True) for _ in range(4)]
    for tab in tabs:
        await tab.wait("[data-event=subscribed]", 1)
    assert await sockets(tabs) == await places(publisher, user) == 1
    await publisher.publish(channel, 2)
    for tab in tabs[1:]:
        await heard(tab, 2)
    # What one asks for again is nothing to the others.
    await tabs[4].evaluate(f"subscribe({json.dumps(channel)}, 'all', {{since: 0}}) && 0")
    await heard(tabs[4], 1, 2, event="all")
    await heard(tabs[0], 1, 2)
    for tab in tabs[1:]:
        await heard(tab, 2)
    # What one leaves the others go on to hear.
    await tabs[0].evaluate("handle.unsubscribe()")
    await publisher.publish(channel, 3)
    for tab in tabs[1:]:
        await heard(tab, 2, 3)
    await heard(tabs[0], 1, 2)


@pytest.mark.parametrize("way", ["close", "crash", pytest.param("hang", marks=pytest.mark.long)])
async def test_when_the_tab_with_the_connection_goes_the_next_one_has_it_soon(
    way: str, visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    first = await visit(share=True)
    await publisher.publish(channel, "first")
    await heard(first, "first")
    others = [await visit(first, share=True) for _ in range(2)]
    for tab in others:
        await tab.wait("[data-event=subscribed]", 1)
    await publisher.publish(channel, "before")
    for tab in others:
        await heard(tab, "before")
    begun = time.monotonic()
    if way == "close":
        await close(first)
    elif way == "crash":
        await first.do("crash")
    else:
        await hang(first)
    await publisher.publish(channel, "meanwhile")
    for tab in others:
        await heard(tab, "before", "meanwhile")
    for tab in others:
        await tab.wait("[data-event=subscribed]", 2)
    assert time.monotonic() - begun < TAKEN_OVER_SECONDS
    assert await sockets(others) == 1
    await publisher.publish(channel, "after")
    for tab in others:
        await heard(tab, "before", "meanwhile", "after")
    if way == "hang":
        await heard(first, "first", "before", "meanwhile", "after")
        assert await sockets(others) == 1
        await held(publisher, user, 1)


async def test_when_the_connection_is_lost_one_tab_makes_it_again_for_all(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    options = {"share": True, "backoff": {"max": 200}}
    tabs = [await visit(**options)]
    tabs += [await visit(tabs[0], **options) for _ in range(2)]
    for tab in tabs:
        await tab.wait("[data-event=subscribed]", 1)
    await publisher.publish(channel, "before")
    for tab in tabs:
        await heard(tab, "before")
    await publisher.disconnect(user)
    await publisher.publish(channel, "meanwhile")
    for tab in tabs:
        await heard(tab, "before", "meanwhile")
        assert await happened(tab, "gap") == []
    await held(publisher, user, 1)


async def test_a_channel_that_only_a_dead_tab_has_heard_is_left(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    first = await visit(share=True)
    await first.wait("[data-event=subscribed]", 1)  # so that it is this one that has the connection
    second = await visit(first, share=True)
    await second.wait("[data-event=subscribed]", 1)
    await second.evaluate(f"subscribe({json.dumps(channel + '-2')}, 'other') && 0")
    await second.wait("[data-event=subscribed]", 2)
    await publisher.publish(f"{channel}-2", "heard")
    await heard(second, "heard", event="other")

    await second.do("crash")
    # The answer of the gateway to the one that has the connection.
    await first.wait("[data-event=left]", 1)
    assert await happened(first, "left") == [f"{channel}-2"]


async def test_a_frame_that_may_have_no_locks_has_a_connection_of_its_own(
    visit: Visit, publisher: AsyncPublisher, channel: str
) -> None:
    page = await visit(share=True)
    await page.evaluate("""
      addEventListener('message', ({ data }) => note('framed', data));
      const frame = document.createElement('iframe');
      frame.sandbox = 'allow-scripts';
      frame.src = location.href;
      document.body.append(frame);
    """)
    await page.wait("[data-event=framed]", 1)
    assert await happened(page, "framed") == ["subscribed"]
    await publisher.publish(channel, "heard")
    await heard(page, "subscribed", "heard", event="framed")


async def test_users_of_one_browser_share_nothing(
    visit: Visit, publisher: AsyncPublisher, user: str, channel: str
) -> None:
    first = await visit(share=True)
    second = await visit(first, user=f"{user}-2", share=True)
    for tab in (first, second):
        await tab.wait("[data-event=subscribed]", 1)
    assert await sockets([first, second]) == 2
    assert [await places(publisher, each) for each in (user, f"{user}-2")] == [1, 1]
    assert await second.evaluate("rt.userId") == f"{user}-2"
