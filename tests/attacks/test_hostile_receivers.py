"""A receiver of webhooks that hangs, lies and never ends holds up no other user's events, and costs ``gateway webhooks`` little."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.attacks.harness import MIB
from tests.faults.logs import is_bad, lines
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.waiting import until

SECRET: Final = "0123456789abcdef0123456789abcdef"
ROUNDS: Final = 20
"""About twelve seconds: longer than a request may take."""
ROUND_SECONDS: Final = 0.5
LATE_SECONDS: Final = 5.0
MEMORY_MIB: Final = 32
_BLOCK: Final = 16_384

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def _said(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def _for_ever(head: bytes, rest: bytes) -> Answer:
    """It says the one, and then the other as fast as it is taken."""
    block = rest * (_BLOCK // len(rest))

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(block)
            await writer.drain()

    return answer


async def _silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _byte_by_byte(writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


GOOD: Final = _said(b"HTTP/1.1 204 No Content\r\n\r\n")
ANSWERS: Final[dict[str, Answer]] = {
    "says nothing": _silence,
    "resets": _reset,
    "answers byte by byte": _byte_by_byte,
    "redirects": _said(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    ),
    "fails": _said(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
    "fails without end": _for_ever(b"HTTP/1.1 500 Oh\r\n\r\n", b"x"),
    "has a head without end": _for_ever(b"HTTP/1.1 200 OK\r\n", b"x: yyyyyyyyyyyyyyyyyyy\r\n"),
    "has a line without end": _for_ever(b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "is about to answer without end": _for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "says something else": _for_ever(b"", b"\x16\x03\x01\0\xff"),
    "has a chunk of a billion bytes": _for_ever(
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3b9aca00\r\n", b"x"
    ),
}


class Hostile:
    """Answers each user's events in that user's way; those of others as it should."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[float]] = defaultdict(list)
        self.paths: set[str] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
                self.paths.add(head.split()[1])
                length = int(head.lower().partition("content-length: ")[2].split()[0])
                user = json.loads(await reader.readexactly(length))["data"]["user"]
                self.arrived[user].append(time.monotonic())
                await ANSWERS.get(user, GOOD)(writer)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._served, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        finally:
            server.close()
            for each in self._serving:
                each.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self.serve(reader, writer)
        finally:
            writer.transport.abort()
            self._serving.discard(task)


def _memory(process: asyncio.subprocess.Process, name: str) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text("ascii", errors="replace")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


@contextlib.asynccontextmanager
async def _sending(
    url: str, redis_url: str, prefix: str, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    secret = folder / "secret"
    secret.write_text(SECRET)
    environment = {**os.environ, "PUBLISHER_REDIS_URL": redis_url, "GATEWAY_REDIS_PREFIX": prefix}
    command = ("webhooks", "--url", url, "--secret-file", str(secret), "--start", "oldest")
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *command), env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_hostile_receiver_holds_up_nobody_else(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    hostile = Hostile()

    async def come(node: str, user: str) -> None:
        async with connected(node, make_token(user)):
            pass

    async with (
        hostile.running() as url,
        gateway_process(redis_url, prefix, events="connected") as node,
        _sending(url, redis_url, prefix, tmp_path) as sender,
    ):
        await come(node.url, "the first")
        await until(lambda: hostile.arrived["the first"], within=20.0)
        before = _memory(sender, "VmRSS")
        told: dict[str, float] = {}
        for number in range(ROUNDS):
            for user in ANSWERS:
                await come(node.url, user)
            told[good := f"good {number}"] = time.monotonic()
            await come(node.url, good)
            await asyncio.sleep(ROUND_SECONDS)
        await until(lambda: all(hostile.arrived[each] for each in told))
        late = {each: hostile.arrived[each][0] - at for each, at in told.items()}
        grown = (_memory(sender, "VmHWM") - before) / MIB
        assert sender.returncode is None
    assert max(late.values()) < LATE_SECONDS, late
    assert grown < MEMORY_MIB
    assert hostile.paths == {"/hook"}
    assert all(hostile.arrived[user] for user in ANSWERS)
    assert not [each for each in lines("webhooks", (tmp_path / "log").read_text()) if is_bad(each)]
