"""Events as requests: signed, in order for each user, until they have arrived; to a real receiver that fails in many ways."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.webhooks import delivery as deliveries
from gateway.webhooks.delivery import Delivery, Gone, pause_after
from gateway.webhooks.receiver import BadURL, Receiver, check_url
from gateway.webhooks.signing import BadSecret, secrets_of
from publisher import AsyncPublisher, Event, Rejected
from publisher.contract import events as contract
from publisher.contract.keys import Keys
from tests.faults.proxy import Proxy
from tests.support import topology
from tests.support.waiting import until

SECRET = b"0123456789abcdef0123456789abcdef"
NUMBERS = itertools.count()


class Backend:
    """Receives events. ``answer`` says with which status, by user and how often that event has come."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int], int] = lambda _user, _times: 200
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.tries: Counter[str] = Counter()
        self.arrived: defaultdict[str, list[str]] = defaultdict(list)
        self.slow: dict[str, asyncio.Event] = {}
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        body = await request.read()
        self.bodies.append(body)
        event = json.loads(body)["data"]
        if (slow := self.slow.get(event["user"])) is not None:
            await slow.wait()
        self.tries[event["id"]] += 1
        status = self.answer(event["user"], self.tries[event["id"]])
        if status == 200:
            self.arrived[event["user"]].append(event["channel"])
        return web.Response(status=status, headers={"location": f"{self.url}other"})


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    app = web.Application()
    app.router.add_post("/", backend.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield backend
    for each in backend.slow.values():
        each.set()
    await runner.cleanup()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return topology.keys(prefix)


async def tell(publisher: AsyncPublisher, keys: Keys, *events: str) -> None:
    """Tell events, ``user channel`` each."""
    batch = [
        contract.told("subscribed", user, "n", 1, connection="n/1", channel=channel)
        for user, channel in map(str.split, events)
    ]
    (call,) = [contract.write(keys, "n", next(NUMBERS), 1000, batch)]
    client: Any = publisher._client  # type: ignore[attr-defined]
    await client.execute_command(*call.whole())


async def state(publisher: AsyncPublisher, keys: Keys) -> tuple[int, int]:
    """How many events wait for an acknowledgement, and how many were set aside."""
    client: Any = publisher._client  # type: ignore[attr-defined]
    pending = await client.xpending(keys.events, "g")
    return pending["pending"], await client.xlen(keys.aside)


@contextlib.asynccontextmanager
async def sending(publisher: AsyncPublisher, backend: Backend) -> AsyncIterator[asyncio.Task[None]]:
    async with contextlib.aclosing(Receiver(backend.url, [SECRET])) as receiver:
        events = publisher.events("g", start="oldest")
        delivery = Delivery(events, receiver, lambda _failures: 0.01, time.monotonic)
        task = asyncio.create_task(delivery.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_each_event_is_a_signed_request_and_is_acknowledged_once_it_has_arrived(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    await tell(publisher, keys, "u a/1", "u a/2", "v a/1")
    async with sending(publisher, backend):
        await until(lambda: len(backend.bodies) == 3)
        await until(lambda: _acknowledged(publisher, keys))
    assert backend.arrived == {"u": ["a/1", "a/2"], "v": ["a/1"]}
    for request, body in zip(backend.requests, backend.bodies, strict=True):
        named = json.loads(body)
        assert named["type"] == named["data"]["kind"] == "subscribed"
        assert named["timestamp"] == "1970-01-01T00:00:00.001+00:00"
        id_, moment = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        assert id_ == named["data"]["id"]
        assert abs(time.time() - int(moment)) < 60
        signed = b".".join((id_.encode(), moment.encode(), body))
        digest = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{digest}"


async def _acknowledged(publisher: AsyncPublisher, keys: Keys) -> bool:
    client: Any = publisher._client  # type: ignore[attr-defined]
    groups = await client.xinfo_groups(keys.events)
    return all(each["pending"] == each["lag"] == 0 for each in groups) and bool(groups)


async def test_one_users_order_is_kept_while_it_fails_and_others_go_on(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    mended = False
    backend.answer = lambda user, _times: 200 if user != "u" or mended else 503
    await tell(publisher, keys, "u a/1", "u a/2", "v a/1", "v a/2")
    async with sending(publisher, backend):
        await until(lambda: len(backend.arrived["v"]) == 2 and backend.tries.total() > 10)
        assert "u" not in backend.arrived
        assert (await state(publisher, keys))[1] == 0
        mended = True
        await until(lambda: _acknowledged(publisher, keys))
    assert backend.arrived["u"] == ["a/1", "a/2"]


async def test_a_slow_one_holds_up_its_own_user_only(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    backend.slow["u"] = asyncio.Event()
    await tell(publisher, keys, "u a/1", "v a/1")
    async with sending(publisher, backend):
        await until(lambda: backend.arrived["v"])
        assert not backend.arrived["u"]
        backend.slow["u"].set()
        await until(lambda: backend.arrived["u"])


async def test_what_is_refused_five_times_is_set_aside(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    backend.answer = lambda user, _times: 400 if user == "u" else 200
    await tell(publisher, keys, "u a/1", "v a/1")
    async with sending(publisher, backend):
        await until(lambda: _acknowledged(publisher, keys))
    assert (await state(publisher, keys)) == (0, 1)
    assert sorted(backend.tries.values()) == [1, 5]
    client: Any = publisher._client  # type: ignore[attr-defined]
    ((_, aside),) = await client.xrange(keys.aside)
    assert aside[b"group"] == b"g"
    assert aside[b"reason"] == b"HTTP 400"
    assert json.loads(aside[b"event"])["user"] == "u"


@pytest.mark.parametrize("status", [302, 408, 429, 500])
async def test_what_may_pass_is_tried_again_and_no_redirect_is_followed(
    publisher: AsyncPublisher, backend: Backend, keys: Keys, status: int
) -> None:
    backend.answer = lambda _user, times: status if times < 8 else 200
    await tell(publisher, keys, "u a/1")
    async with sending(publisher, backend):
        await until(lambda: _acknowledged(publisher, keys))
    assert backend.tries.total() == len(backend.requests) == 8
    assert (await state(publisher, keys)) == (0, 0)


async def test_410_ends_it_and_the_event_is_not_acknowledged(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    backend.answer = lambda _user, _times: 410
    await tell(publisher, keys, "u a/1")
    async with sending(publisher, backend) as task:
        with pytest.raises(Gone):
            await task
    assert (await state(publisher, keys)) == (1, 0)


async def test_what_had_not_arrived_when_it_was_ended_is_sent_by_the_next(
    publisher: AsyncPublisher,
    backend: Backend,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend.answer = lambda user, _times: 500 if user == "u" else 200
    await tell(publisher, keys, "u a/1", "v a/1")
    async with sending(publisher, backend):
        await until(lambda: backend.arrived["v"] and backend.requests)
    backend.answer = lambda _user, _times: 200
    monkeypatch.setattr(contract, "_IDLE_MS", 0)
    async with sending(publisher, backend):
        await until(lambda: backend.arrived["u"])
    assert backend.arrived == {"u": ["a/1"], "v": ["a/1"]}


async def test_what_is_under_way_at_the_end_is_handed_over_and_comes_before_what_is_newer(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    backend.answer = lambda _user, _times: 500
    await tell(publisher, keys, "u a/1", "u a/2")
    async with sending(publisher, backend):
        await until(lambda: backend.requests)
    backend.answer = lambda _user, _times: 200
    await tell(publisher, keys, "u a/3")
    async with sending(publisher, backend):
        await until(lambda: len(backend.arrived["u"]) == 3)
    assert backend.arrived["u"] == ["a/1", "a/2", "a/3"]


async def test_it_ends_in_time_while_redis_is_away(
    proxy: Proxy,
    publisher_url: str,
    prefix: str,
    publisher: AsyncPublisher,
    backend: Backend,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(deliveries, "_ENDING_SECONDS", 0.2)
    backend.answer = lambda _user, _times: 500
    await tell(publisher, keys, "u a/1")
    way = f"{publisher_url.rpartition(':')[0]}:{proxy.port}"
    async with AsyncPublisher.from_url(way, prefix=prefix) as cut_off:
        async with sending(cut_off, backend) as task:
            await until(lambda: backend.requests)
            proxy.refuse()
            task.cancel()
            await asyncio.wait([task], timeout=5)
            assert task.done()
    assert "webhooks_not_handed_over events=1" in caplog.text


async def test_those_under_way_stay_this_processs_and_are_not_sent_twice(
    publisher: AsyncPublisher,
    backend: Backend,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "_REFRESHED_SECONDS", 0.0)
    backend.slow["u"] = asyncio.Event()
    await tell(publisher, keys, "u a/1", "u a/2")
    async with sending(publisher, backend):
        await until(lambda: len(backend.requests) == 1)
        client: Any = publisher._client  # type: ignore[attr-defined]

        async def given() -> int:
            found = await client.xpending_range(keys.events, "g", "-", "+", 10)
            return min((each["times_delivered"] for each in found), default=0)

        await until(lambda: _is_over(given, 3))
        backend.slow["u"].set()
        await until(lambda: _acknowledged(publisher, keys))
    assert len(backend.requests) == 2


async def test_what_redis_refuses_for_good_is_raised_as_it_is(
    publisher: AsyncPublisher, backend: Backend, keys: Keys
) -> None:
    client: Any = publisher._client  # type: ignore[attr-defined]
    await client.set(keys.events, "no stream")
    async with sending(publisher, backend) as task:
        with pytest.raises(Rejected, match="WRONGTYPE"):
            await asyncio.wait_for(task, 10)


async def _is_over(given: Callable[[], Any], least: int) -> bool:
    return bool(await given() > least)


def test_the_pauses_grow_from_a_second_to_a_minute() -> None:
    assert [pause_after(each, lambda: 0.0) for each in (1, 2, 3, 7, 100)] == [1, 2, 4, 60, 60]
    assert pause_after(1, lambda: 1.0) == 0.75


@pytest.mark.parametrize(
    "url", ["https://a.example/x", "http://127.0.0.1:80/", "http://localhost/", "http://[::1]/"]
)
def test_urls_that_nobody_on_the_way_can_read(url: str) -> None:
    check_url(url, hidden=False)


def test_a_password_is_fine_where_nobody_else_can_read_it() -> None:
    check_url("https://u:p@a.example/", hidden=True)


@pytest.mark.parametrize(
    "url",
    ["http://a.example/", "ftp://127.0.0.1/", "https://", "https://u:p@a.example/", "a", "http://127.0.0.1.a.example/", "https://[", "https://a:b/"],
)  # fmt: skip
def test_other_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadURL) as refused:
        check_url(url, hidden=False)
    assert "u:p" not in str(refused.value)


async def test_an_answer_that_is_none_is_told_without_the_url() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"what do you want\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    event = Event("connected", "u", "n", 1, "1-1", connection="n/1")
    async with (
        server,
        contextlib.aclosing(Receiver(f"http://127.0.0.1:{port}/hook-secret", [SECRET])) as receiver,
    ):
        said = await receiver(event)
    assert isinstance(said, str)
    assert "hook-secret" not in said


def test_secrets_are_lines_of_text_or_base64() -> None:
    text = "x" * 24
    encoded = "whsec_" + base64.b64encode(SECRET).decode()
    assert secrets_of(f"{text}\n\n {encoded} \n") == [text.encode(), SECRET]


@pytest.mark.parametrize("text", ["", "\n", "short", "whsec_!", "whsec_AAAA"])
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(BadSecret):
        secrets_of(text)
