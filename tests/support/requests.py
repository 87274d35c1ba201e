"""Requests as bytes, and what a port answers to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE

CASES = Path(__file__).parents[1] / "cases"

UPGRADE = (
    "Host: rt.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file, whole."""
    return json.loads((CASES / name).read_text("utf-8"))  # type: ignore[no-any-return]


def request(*lines: str) -> bytes:
    """A head; letters above 0x7F are sent as Latin-1."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def handshake(token: str, *more: str, path: str = "/") -> bytes:
    """A request for a WebSocket, with ``more`` header lines."""
    return request(f"GET {path}?token={token} HTTP/1.1", *UPGRADE, *more)


@dataclass
class Answer:
    """What came back: a head, and the body that it announces."""

    raw: bytes

    @property
    def status(self) -> int:
        """0 where the connection just ended."""
        return int(self.raw.split(b" ", 2)[1]) if self.raw else 0

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def code(self) -> str:
        """The code of an error in JSON."""
        return str(json.loads(self.body)["error"]["code"])


@dataclass
class Line:
    """A connection to a port."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> Answer:
        """The next answer; empty where the connection has ended."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head, re.IGNORECASE)
                return Answer(head + await self.reader.readexactly(int(length[1]) if length else 0))
            except (asyncio.IncompleteReadError, ConnectionError):
                return Answer(b"")

    async def ended(self) -> bool:
        """Return once the connection has ended."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65_536):
                    pass
        return True


@contextlib.asynccontextmanager
async def line(
    url: str, data: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Line]:
    """Open a connection to a port, and send ``data``."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
    writer.write(data)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answer_to(url: str, data: bytes, tls: ssl.SSLContext | None = None) -> Answer:
    """Send ``data`` over a connection of its own, and hear the answer."""
    async with line(url, data, tls) as each:
        return await each.answer()
