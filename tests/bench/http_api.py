"""Item 13: what a message costs the HTTP API, beside the least that publishes over HTTP and the library itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.measuring import cpu_seconds
from tests.bench.publishing import Messages, medians, random_messages
from tests.bench.scale import Scale
from tests.bench.world import PREFIX, own_redis, world_on
from tests.support.redis_server import free_port

Result = dict[str, Any]

_KEY: Final = "key-of-the-benchmark-0123456789-0123"
_KEYS: Final = {"bench": {"key": _KEY, "scopes": ["publish"]}}
_TURNS: Final = 10
"""So short are they that whatever else the machine does falls on all alike."""
_CHANNELS: Final = 1_000
_CONNECTIONS: Final = 16
_LINES: Final = 1_000


async def http_api(scale: Scale) -> Result:
    """CPU for a message of the process that serves, in turns.

    ``publish`` and ``publish_many`` are the API's; ``bare`` a handler of aiohttp that publishes what it reads,
    ``library`` its ``publish_many`` alone.
    """
    chance, port = random.Random(13), free_port()
    channels = [f"bench/{n}" for n in range(_CHANNELS)]
    found: dict[str, list[Result]] = {}
    with own_redis() as server:
        settings = {"api_port": port, "api_keys": json.dumps(_KEYS)}
        async with world_on(server, **settings) as world, _bare(server.url) as (pid, bare_port):
            api, bare = _Server(port, world.pids), _Server(bare_port, [pid])
            for number in range(-1, scale.rounds * _TURNS):
                single = random_messages(scale.single_publishes // _TURNS, channels, scale, chance)
                many = random_messages(scale.publishes // _TURNS, channels, scale, chance)
                for name, measured in (
                    ("publish", lambda: _publishes(api, "/v1/publish", single)),  # noqa: B023
                    ("bare", lambda: _publishes(bare, "/publish", single)),  # noqa: B023
                    ("publish_many", lambda: _lines(api, many)),  # noqa: B023
                    ("library", lambda: _library(bare, many)),  # noqa: B023
                ):
                    result = await measured()
                    if number >= 0:  # the first is there to warm up
                        found.setdefault(name, []).append(result)
    return {name: medians(rounds) for name, rounds in found.items()}


@contextlib.asynccontextmanager
async def _bare(url: str) -> AsyncIterator[tuple[int, int]]:
    """Run the program; gives its process and port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.bare_api", url, PREFIX), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class _Server:
    """What is asked, and the processes whose CPU is counted."""

    port: int
    pids: Sequence[int]

    async def measured(self, count: int, work: Callable[[], Awaitable[None]]) -> Result:
        before = cpu_seconds(self.pids)
        await work()
        return {"us": (cpu_seconds(self.pids) - before) / count * 1e6}


async def _publishes(server: _Server, path: str, messages: Messages) -> Result:
    """Each in a request of its own, over several connections at a time."""
    requests = [_request(path, _json(each)) for each in messages]
    parts = [requests[first::_CONNECTIONS] for first in range(_CONNECTIONS)]

    async def work() -> None:
        await asyncio.gather(*(_ask(server.port, part) for part in parts))

    return await server.measured(len(messages), work)


async def _lines(server: _Server, messages: Messages) -> Result:
    """A request for every thousand."""
    requests = [
        _request(
            "/v1/publish-many",
            b"\n".join(map(_json, messages[first : first + _LINES])),
            "application/x-ndjson",
        )
        for first in range(0, len(messages), _LINES)
    ]
    return await server.measured(len(messages), lambda: _ask(server.port, requests))


async def _library(server: _Server, messages: Messages) -> Result:
    """The same by the library, to which they are given before."""
    spent = 0.0
    for first in range(0, len(messages), _LINES):
        part = messages[first : first + _LINES]
        await _ask(server.port, [_request("/prepare", b"\n".join(map(_json, part)))])
        told = await server.measured(1, lambda: _ask(server.port, [_request("/publish-many", b"")]))
        spent += told["us"]
    return {"us": spent / len(messages)}


def _json(message: tuple[str, Any]) -> bytes:
    channel, data = message
    return json.dumps({"channel": channel, "data": data}).encode()


def _request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {_KEY}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _ask(port: int, requests: Sequence[bytes]) -> None:
    """One after the other over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for each in requests:
            writer.write(each)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not head.startswith(b"HTTP/1.1 200") or b'"code"' in body:
                raise RuntimeError(f"refused: {head!r} {body[:500]!r}")
    finally:
        writer.close()
        await writer.wait_closed()
