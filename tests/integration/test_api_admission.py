"""How much the HTTP API takes on at a time, and that no key takes all of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from gateway.api import admission
from publisher import AsyncPublisher
from tests.support.api import KEY, READER, SLOW, Answered, Api
from tests.support.requests import Line, line
from tests.support.waiting import until

CHANNEL = "notifications/u"
SMALL = {"channel": CHANNEL, "data": 1}
MIB = 1024 * 1024


@pytest.fixture
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is started after this takes on no more than a test asks for."""
    for name, most in request.param.items():
        monkeypatch.setattr(admission, name, most)


def with_room(**most: int) -> pytest.MarkDecorator:
    """Let a test have a node that takes on no more than this."""
    return pytest.mark.parametrize("room", [most], ids=[""], indirect=True)


@contextlib.asynccontextmanager
async def begun(
    api: Api, announced: int, sent: bytes = b"{", key: str = KEY, path: str = "/v1/publish"
) -> AsyncIterator[Line]:
    """A request that is being served, whose body has begun."""
    kind = "application/x-ndjson" if path == "/v1/publish-many" else "application/json"
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Type: {kind}",
        f"Content-Length: {announced}",
        "Expect: 100-continue",
    ]
    async with line(api.url, "\r\n".join([*head, "", ""]).encode()) as each:
        assert (await each.answer()).status == 100
        each.writer.write(sent)
        yield each


async def publish(api: Api, key: str = KEY, **more: object) -> Answered:
    return await api.ask("POST", "/v1/publish", key, body={**SMALL, **more})


def is_busy(answered: Answered) -> bool:
    if answered.status != 503:
        assert answered.status == 200, answered.text
        return False
    assert (answered.json["code"], answered.headers["Retry-After"]) == ("busy", "1")
    assert (answered.json["maybe_sent"], answered.json["retryable"]) == (False, True)
    return True


@with_room(MOST_REQUESTS=7)
async def test_each_key_leaves_room_for_the_next(room: None, api: Api) -> None:
    async def is_served() -> bool:
        return not is_busy(await publish(api))

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(begun(api, 1000))
        assert is_busy(await publish(api))
        assert not is_busy(await publish(api, SLOW))
        for _ in range(2):
            await stack.enter_async_context(begun(api, 1000, key=SLOW))
        assert is_busy(await publish(api, SLOW))
        assert not is_busy(await api.ask("GET", "/v1/history/run-results/x", READER))
        # Who has no key takes nobody's place, and is told of none.
        assert (await api.ask("GET", "/v1/nodes", None)).status == 401
    await until(is_served)


async def test_bodies_that_do_not_come_leave_room_for_those_that_do(api: Api) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(begun(api, 2 * MIB))
            await stack.enter_async_context(begun(api, 8 * MIB, path="/v1/broadcast"))
            await stack.enter_async_context(begun(api, 60 * MIB, path="/v1/publish-many"))
        assert not is_busy(await publish(api, data="x" * 100))


@pytest.mark.parametrize("path", ["/v1/publish", "/v1/publish-many"])
@with_room(MOST_BYTES=100_000)
async def test_what_has_come_of_bodies_has_a_bound_and_leaves_room_for_other_keys(
    room: None, api: Api, path: str
) -> None:
    async with begun(api, 1_000_000, b"x" * 49_500, path=path) as slow:

        async def is_full() -> bool:
            return is_busy(await publish(api, data="x" * 1_000))

        await until(is_full)
        assert not is_busy(await publish(api))
        assert not is_busy(await publish(api, SLOW, data="x" * 20_000))
        slow.writer.write(b"x" * 1_000)
        refused = await slow.answer()
        assert (refused.status, json.loads(refused.body)["code"]) == (503, "busy")
    assert not is_busy(await publish(api, data="x" * 20_000))


@with_room(MOST_BYTES=100_000)
async def test_lines_that_are_published_are_not_held(
    room: None, api: Api, publisher: AsyncPublisher
) -> None:
    text = json.dumps({"channel": CHANNEL, "data": "x" * 9_000}).encode() + b"\n"
    async with begun(api, 20 * len(text), b"", path="/v1/publish-many") as slow:
        for number in range(1, 21):
            slow.writer.write(text)

            async def is_published(number: int = number) -> bool:
                return len(await publisher.history(CHANNEL)) == number

            await until(is_published)
        answered = await slow.answer()
    assert [json.loads(each).get("code") for each in answered.body.splitlines()] == [None] * 20


@with_room(MOST_BYTES=1_000)
async def test_answers_that_are_kept_are_counted_and_told(
    room: None, api: Api, publisher: AsyncPublisher
) -> None:
    text = json.dumps(SMALL).encode() + b"\n"
    async with begun(api, 1_000 * len(text), b"", path="/v1/publish-many") as slow:
        while not slow.reader.at_eof():
            slow.writer.write(text)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    answered = await slow.answer()
                    break
    told = [json.loads(each).get("code") for each in answered.body.splitlines()]
    assert 2 <= len(told) < 10
    assert told == [None] * (len(told) - 1) + ["busy"]
    assert len(await publisher.history(CHANNEL)) == len(told) - 1


@with_room(MOST_WAITING=5)
async def test_who_waits_for_a_confirmation_leaves_room_for_who_does_not(
    room: None, api: Api, publisher: AsyncPublisher
) -> None:
    waiting = [asyncio.create_task(publish(api, wait_confirmed=2)) for _ in range(2)]

    async def are_published() -> bool:
        return len(await publisher.history(CHANNEL)) == 2

    await until(are_published)
    assert is_busy(await publish(api, wait_confirmed=2))
    # It is refused before it is published.
    assert len(await publisher.history(CHANNEL)) == 2
    assert not is_busy(await publish(api, SLOW, wait_confirmed=0.01))
    assert [is_busy(each) for each in await asyncio.gather(*waiting)] == [False, False]
    assert not is_busy(await publish(api, wait_confirmed=0.01))


@with_room(MOST_REQUESTS=5)
async def test_who_waits_for_a_confirmation_takes_no_place_of_requests(
    room: None, api: Api, publisher: AsyncPublisher
) -> None:
    waiting = []
    for number in range(1, 6):
        waiting.append(asyncio.create_task(publish(api, wait_confirmed=2)))

        async def is_published(number: int = number) -> bool:
            return len(await publisher.history(CHANNEL)) == number

        await until(is_published)
    assert not is_busy(await publish(api))
    assert [is_busy(each) for each in await asyncio.gather(*waiting)] == [False] * 5


@with_room(MOST_WAITING=3)
async def test_who_waits_for_a_confirmation_and_goes_away_gives_the_place_back(
    room: None, api: Api, publisher: AsyncPublisher
) -> None:
    body = json.dumps({**SMALL, "wait_confirmed": 60}).encode()
    async with begun(api, len(body), body):

        async def is_published() -> bool:
            return len(await publisher.history(CHANNEL)) == 1

        await until(is_published)
        assert is_busy(await publish(api, wait_confirmed=0.01))

    async def is_served() -> bool:
        return not is_busy(await publish(api, wait_confirmed=0.01))

    await until(is_served)


@contextlib.asynccontextmanager
async def unread(url: str, path: str) -> AsyncIterator[socket.socket]:
    """A request whose answer has begun, of which no more is read."""
    ask = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    with contextlib.closing(socket.socket()) as raw:
        raw.setblocking(False)
        # Before connecting: the window is agreed upon then.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        await loop.sock_connect(raw, (parts.hostname, parts.port))
        await loop.sock_sendall(raw, ask.encode())
        yield raw


@pytest.mark.parametrize(
    ("room", "served"),
    [({"MOST_BYTES": 32_000_000}, 2), ({"MOST_REQUESTS": 7}, 3)],
    ids=["bytes", "requests"],
    indirect=["room"],
)
async def test_an_answer_takes_room_until_it_is_read(
    room: None, served: int, api: Api, publisher: AsyncPublisher
) -> None:
    for _ in range(7):
        await publisher.publish(CHANNEL, "x" * 1_000_000)
    path = f"/v1/history/{CHANNEL}"
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(6):
            raw = await stack.enter_async_context(unread(api.url, path))
            status = (await loop.sock_recv(raw, 12)).removeprefix(b"HTTP/1.1 ")
            assert status == (b"200" if number < served else b"503")

    async def is_served() -> bool:
        return not is_busy(await api.ask("GET", path))

    await until(is_served)


async def test_an_answer_is_not_kept_while_its_connection_is_idle(
    api: Api, publisher: AsyncPublisher
) -> None:
    for _ in range(4):
        await publisher.publish(CHANNEL, "x" * 1_000_000)
    path = f"/v1/history/{CHANNEL}"

    async def size() -> int:
        return len((await api.ask("GET", path)).text)

    await size()
    tracemalloc.start()
    try:
        # At a time, so that each has a connection, which is kept.
        assert min(await asyncio.gather(*(size() for _ in range(5)))) > 4_000_000
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()
