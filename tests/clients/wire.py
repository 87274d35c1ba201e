"""A way to a node on which the frames can be seen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass


@dataclass
class Frame:
    """A frame's head (RFC 6455 §5.2); ``compressed`` is RSV1, ``size`` its payload's in bytes."""

    opcode: int
    compressed: bool
    size: int


class Wire:
    """What has gone either way of one connection: the heads of HTTP, then frames."""

    def __init__(self) -> None:
        self._up = bytearray()
        self._down = bytearray()

    @property
    def from_client(self) -> list[Frame]:
        """The client's frames."""
        return list(_frames(self._up))

    @property
    def from_server(self) -> list[Frame]:
        """The server's frames."""
        return list(_frames(self._down))

    @contextlib.asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[str]:
        """The address of a way to that port of this machine, for one connection."""

        async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            server, to_server = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(
                _pump(client, to_server, self._up), _pump(server, to_client, self._down)
            )

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as way:
            yield f"ws://127.0.0.1:{way.sockets[0].getsockname()[1]}"


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seen: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            seen += data
            sink.write(data)
            await sink.drain()
    sink.close()


def _frames(data: bytearray) -> Iterator[Frame]:
    """The frames that are whole."""
    position = data.find(b"\r\n\r\n") + 4
    while position + 10 <= len(data) or position + 2 <= len(data):
        first, second = data[position : position + 2]
        masked, size = second & 0x80, second & 0x7F
        position += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[position : position + width])
            position += width
        position += size + (4 if masked else 0)
        if position <= len(data):
            yield Frame(first & 0xF, bool(first & 0x40), size)
