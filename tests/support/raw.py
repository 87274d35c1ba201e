"""A client that sees frames as they are: opcodes, flags, pings, and what it does not answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


@dataclass
class Frame:
    """A frame from the server; ``compressed`` is RSV1."""

    opcode: int
    compressed: bool
    payload: bytes


class RawClient:
    """Reads frames one by one; answers no ping by itself."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: str
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.headers = headers
        self.last: dict[str, Any] = {}

    async def frame(self) -> Frame:
        """The next frame."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            return Frame(first & 0xF, bool(first & 0x40), await self.reader.readexactly(size))

    async def next(self, opcode: int) -> Frame:
        """The next frame of that kind; others are passed over."""
        while (frame := await self.frame()).opcode != opcode:
            pass
        return frame

    async def told(self) -> str:
        """The type of the next message, which is the ``last`` one then."""
        self.last = json.loads((await self.next(TEXT)).payload)
        return str(self.last["type"])

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame."""
        self.writer.write(client_frame(opcode, payload))


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a client sends it, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


def handshake_request(url: str, token: str, extensions: str = "") -> bytes:
    """What a client opens the conversation with."""
    offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    return (
        f"GET /?token={token} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{offer}"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
    ).encode()


@contextlib.asynccontextmanager
async def raw_client(
    url: str,
    token: str,
    extensions: str = "",
    receive_buffer: int | None = None,
    early: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[RawClient]:
    """Shake hands by hand, with ``early`` frames in the same write as the request.

    With a ``receive_buffer`` (bytes) the kernel takes so much for a client that does not read, and no
    more; left to itself it takes ever more (tcp(7), ``tcp_moderate_rcvbuf``).
    """
    parts = urlsplit(url)
    raw = socket.socket()
    raw.setblocking(False)
    if receive_buffer is not None:
        # Before connecting: the window is agreed upon then.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
    named = {} if tls is None else {"ssl": tls, "server_hostname": parts.hostname}
    reader, writer = await asyncio.open_connection(sock=raw, **named)
    writer.write(handshake_request(url, token, extensions) + early)
    try:
        headers = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert headers.startswith("HTTP/1.1 101"), headers
        yield RawClient(reader, writer, headers)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
