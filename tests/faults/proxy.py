"""A TCP proxy that does to connections what networks do: cut, freeze, delay, throttle, each way by itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final

from tests.support.redis_server import free_port

_CHUNK: Final = 16 * 1024
_SLICES_PER_SECOND: Final = 20
_LATE: Final = 0.25
"""Seconds that a throttled way may make good when the machine was busy: the line stays as fast as it says."""
_RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` of zero seconds: closing sends a reset, as a line that breaks in use looks."""


class Way:
    """What happens to the bytes that go one way.

    ``delay`` in seconds; ``bytes_per_second`` for each connection, ``None`` for as fast as it goes. While it
    ``swallows``, bytes vanish; a connection that has lost some never gets another one through.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.bytes_per_second: float | None = None
        self.swallows = False
        self._flowing = asyncio.Event()
        self._flowing.set()

    def freeze(self) -> None:
        """Let nothing through until :meth:`thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through that has waited."""
        self._flowing.set()

    @property
    def portion(self) -> int:
        """Bytes to take at once, so that a throttled way trickles."""
        if self.bytes_per_second is None:
            return _CHUNK
        return max(1, min(_CHUNK, int(self.bytes_per_second / _SLICES_PER_SECOND)))

    async def hold(self, size: int, free_at: float) -> float:
        """Wait as long as ``size`` bytes have to.

        ``free_at`` is when the bytes before them were through; returned is when these are, in the loop's time.
        """
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.bytes_per_second is not None:
            now = asyncio.get_running_loop().time()
            free_at = max(free_at, now - _LATE) + size / self.bytes_per_second
            await asyncio.sleep(free_at - now)
        await self._flowing.wait()
        return free_at


class Link:
    """One connection through the proxy. ``up`` leads to the server, ``down`` to the client."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.up = Way()
        self.down = Way()
        self.subscribed = False
        self.last_at = asyncio.get_running_loop().time()
        """When something last came on it from either side."""
        self.reset_after: int | None = None
        """Bytes of the server's that get through before both ends are reset."""
        self._client = client
        self._server = server

    @property
    def client_port(self) -> int:
        """The client's own port, by which a test knows whose connection this is."""
        port: int = self._client.get_extra_info("peername", ("", 0))[1]
        return port

    def seen(self) -> None:
        """Something came."""
        self.last_at = asyncio.get_running_loop().time()

    def half_open(self) -> None:
        """Break the line so that the client does not learn of it, as when a server loses its power."""
        self.up.swallows = True
        self.down.freeze()
        _reset(self._server)

    def cut(self) -> None:
        """Break the line: both ends are reset."""
        _reset(self._client)
        _reset(self._server)

    def freeze(self) -> None:
        """Let nothing through any more, as on a line that is dead: neither side learns of it."""
        self.up.freeze()
        self.down.freeze()

    def vanish(self) -> None:
        """Break the line so that the server does not learn of it, as when a phone loses its network."""
        self.freeze()
        _reset(self._client)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


class Greeting(Enum):
    """What becomes of a connection that is accepted."""

    SERVE = "it is led on"
    SILENCE = "nothing that it says is ever answered"
    RESET = "it is reset once the server's answers have ``reset_after`` bytes"


class Proxy:
    """Listens on ``port`` and leads to ``targets`` (ports of 127.0.0.1) by turns.

    ``up`` and ``down`` hold for all connections, also those to come; each link has its own besides.
    ``greeting`` is what becomes of connections from now on.

    Args:
        buffer: bytes the kernel may hold on either side of what the server sends: with few of them
            the server soon feels a client that does not read.
    """

    def __init__(self, *targets: int, buffer: int | None = None) -> None:
        self.port = free_port()
        self.targets = list(targets)
        self.up = Way()
        self.down = Way()
        self.links: list[Link] = []
        self.greeting = Greeting.SERVE
        self.reset_after = 0
        self._buffer = buffer
        self._turn = itertools.count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, limit=_CHUNK, backlog=256
        )

    def refuse(self) -> None:
        """Cut all connections, and refuse those to come until :meth:`start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self, which: Callable[[Link], bool] = lambda _link: True) -> int:
        """Cut the connections that are there now; returns how many."""
        links = [link for link in self.links if which(link)]
        for link in links:
            link.cut()
        return len(links)

    def from_port(self, port: int) -> Link:
        """The connection of the client with this port."""
        return [link for link in self.links if link.client_port == port][-1]

    async def aclose(self) -> None:
        """End."""
        self.refuse()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    # -- one connection -----------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._buffer is not None:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.greeting is Greeting.SILENCE:
            await _ignore(reader, writer)
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            _reset(writer)
            return
        link = Link(writer, server_writer)
        if self.greeting is Greeting.RESET:
            link.reset_after = self.reset_after
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump_up(link, reader, server_writer))
                pumps.create_task(self._pump_down(link, server_reader, writer))
        except* OSError:
            pass
        finally:
            # Whichever end is still there learns of it.
            link.cut()
            self.links.remove(link)

    async def _pump_up(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def look(data: bytes) -> None:
            link.seen()
            link.subscribed = link.subscribed or b"SUBSCRIBE\r\n" in data

        await _pump(reader, writer, (self.up, link.up), look)

    async def _pump_down(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if link.reset_after is None:
            await _pump(reader, writer, (self.down, link.down), lambda _data: link.seen())
        else:
            if link.reset_after:
                writer.write(await reader.read(link.reset_after))
                await writer.drain()
            link.cut()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for target in self._by_turns():
            raw = socket.socket()
            raw.setblocking(False)
            # asyncio sets it for sockets of its own only. Else a request in two pieces waits for a delayed
            # acknowledgement, 40 ms (tcp(7)).
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._buffer is not None:
                # Before connecting: the window is agreed upon then (tcp(7)).
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            try:
                await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", target))
                return await asyncio.open_connection(sock=raw, limit=_CHUNK)
            except OSError:
                raw.close()
        raise ConnectionRefusedError

    def _by_turns(self) -> Iterator[int]:
        first = next(self._turn)
        for number in range(len(self.targets)):
            yield self.targets[(first + number) % len(self.targets)]


async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(_CHUNK):
            pass
    except OSError:
        pass
    finally:
        _reset(writer)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ways: tuple[Way, Way],
    look: Callable[[bytes], None] = lambda _data: None,
) -> None:
    free_at = [asyncio.get_running_loop().time()] * len(ways)
    while True:
        try:
            data = await reader.read(min(way.portion for way in ways))
        except OSError:
            # A frozen way lets the news of the end through no sooner than anything else.
            for way in ways:
                await way.hold(0, 0.0)
            raise
        look(data)
        if data and any(way.swallows for way in ways):
            # Of this connection; what all ways of the proxy do may end.
            ways[-1].swallows = True
            continue
        for number, way in enumerate(ways):
            free_at[number] = await way.hold(len(data), free_at[number])
        if not data:
            break
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
