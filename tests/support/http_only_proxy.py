"""A proxy that knows HTTP and nothing else, as they stand before schools and companies."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

_PART: Final = 64 * 1024
_REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpOnlyProxy:
    """Passes requests on to the gateway at ``port``.

    ``lets_sockets`` through, or answers their handshakes itself, or ``swallows`` them. ``gathers`` each answer until it ends.
    ``asked``: how many requests there were for each path, and for ``websocket``.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.lets_sockets = False
        self.swallows = False
        self.gathers = False
        self.asked: Counter[str] = Counter()
        self._lines: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HttpOnlyProxy]:
        """Serve until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._lines.values())

    def cut(self) -> None:
        """End all connections."""
        for each in self._lines:
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines[writer] = line
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of both is gone
        finally:
            del self._lines[writer]
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_socket = b"upgrade: websocket" in head.lower()
        path = head.split(b" ", 2)[1].split(b"?")[0].decode()
        self.asked["websocket" if is_socket else path] += 1
        if is_socket and self.swallows:
            await reader.read()
            return
        if is_socket and not self.lets_sockets:
            writer.write(_REFUSED)
            await writer.drain()
            return
        from_gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self._to)
        to_gateway.write(head)
        there = asyncio.create_task(_pump(reader, to_gateway))
        try:
            if self.gathers and not is_socket:
                writer.write(await from_gateway.read())
                await writer.drain()
            else:
                await _pump(from_gateway, writer)
        finally:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
            to_gateway.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, until its sender has gone, and then the other one, too."""
    try:
        while part := await reader.read(_PART):
            writer.write(part)
            await writer.drain()
    finally:
        writer.close()
