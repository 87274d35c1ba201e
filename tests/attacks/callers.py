"""Attackers at the HTTP API: backends gone wrong, whose key is good, and strangers without one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator

from tests.attacks.target import MARK, Ended, Line, Target
from tests.support.api import KEY

_CHUNK_BYTES = 65_536
_BYTE_SECONDS = 0.05
_CHANNEL = "run-results/attacked"
_AT_ONCE = 50


def _head(path: str, *fields: str, key: str = KEY, kind: str = "application/json") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Type: {kind}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _published(number: int, **more: object) -> bytes:
    return json.dumps({"channel": _CHANNEL, "data": {"n": number}, **more}).encode()


def _publish(number: int, *fields: str, key: str = KEY) -> bytes:
    body = _published(number)
    return _head("/v1/publish", f"Content-Length: {len(body)}", *fields, key=key) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _line(target: Target, data: bytes) -> contextlib.AbstractAsyncContextManager[Line]:
    return target.line(data, to=target.api_url)


async def _endless(target: Target, head: bytes, part: bytes) -> None:
    async def once(_number: int) -> None:
        async with _line(target, head) as line:
            await line.flood(part)

    await target.for_some_time(once, target.size.clients)


async def bodies_without_end(target: Target) -> None:
    """One object, in chunks."""
    head = _head("/v1/publish", "Transfer-Encoding: chunked")
    await _endless(target, head, _chunk(b"[" * _CHUNK_BYTES))


async def lines_without_end(target: Target) -> None:
    """Of NDJSON: one line, of which nothing is to be kept."""
    head = _head("/v1/publish-many", "Transfer-Encoding: chunked", kind="application/x-ndjson")
    await _endless(target, head, _chunk(b"x" * _CHUNK_BYTES))


async def blank_lines_without_end(target: Target) -> None:
    head = _head("/v1/publish-many", "Transfer-Encoding: chunked", kind="application/x-ndjson")
    await _endless(target, head, _chunk(b"\n" * _CHUNK_BYTES))


async def bodies_byte_by_byte(target: Target) -> None:
    """A crowd whose bodies are as long as may be, and have hardly begun."""
    head = _head("/v1/broadcast", f"Content-Length: {8 * 1024 * 1024}")

    async def slowly(line: Line) -> None:
        with contextlib.suppress(Ended):
            await line.send(b" " * _CHUNK_BYTES)
            while True:
                await line.send(b" ")
                await asyncio.sleep(_BYTE_SECONDS)

    @contextlib.asynccontextmanager
    async def one() -> AsyncIterator[Line]:
        async with _line(target, head) as line:
            trickling = asyncio.create_task(slowly(line))
            try:
                yield line
            finally:
                trickling.cancel()
                await asyncio.gather(trickling, return_exceptions=True)

    await target.hold([one() for _ in range(target.size.crowd)])


async def wrong_keys_by_the_thousand(target: Target) -> None:
    """One after the other on each connection, with a body that nobody is to read."""
    numbers = itertools.count()

    async def once(_number: int) -> None:
        async with _line(target, b"") as line:
            for number in itertools.islice(numbers, 1_000):
                await line.send(_publish(number, key=f"{MARK}-{number:032}"))
                await line.until(b'"key_unknown"')

    await target.for_some_time(once, target.size.strangers)


async def keys_in_long_heads(target: Target) -> None:
    async def once(_number: int) -> None:
        async with _line(target, _publish(0, key=MARK + "k" * 7_000)) as line:
            await line.head()

    await target.for_some_time(once, target.size.strangers)


async def idempotency_keys_by_the_thousand(target: Target) -> None:
    """Each is kept in Redis for a while. The caller lets Redis have so many."""

    def lines(number: int) -> Iterator[bytes]:
        for each in range(target.size.messages):
            yield _published(each, idempotency_key=f"{number}-{each}" + "k" * 900) + b"\n"

    for number in range(target.size.clients):
        body = b"".join(lines(number))
        head = _head(
            "/v1/publish-many", f"Content-Length: {len(body)}", kind="application/x-ndjson"
        )
        async with _line(target, head + body) as line:
            await line.until(b'"duplicate":false', target.size.messages)


async def api_connections_that_are_held_open(target: Target) -> None:
    """Without a request, with half a head, and with a request that was answered."""
    beginnings = itertools.cycle((b"", b"POST /v1/pub", _publish(0)))
    await target.hold([_line(target, next(beginnings)) for _ in range(target.size.crowd)])


async def answers_that_nobody_reads(target: Target) -> None:
    """Requests one behind the other, of which each is answered with all that the channel keeps."""
    await target.publisher.publish_many(
        [(_CHANNEL, {"text": "m" * 5_000}) for _ in range(target.size.messages // 2)]
    )
    ask = f"GET /v1/history/{_CHANNEL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"

    @contextlib.asynccontextmanager
    async def one() -> AsyncIterator[Line]:
        async with target.line(ask.encode() * 20, to=target.api_url, reads=False) as line:
            yield line

    await target.hold([one() for _ in range(_AT_ONCE)])
