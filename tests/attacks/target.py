"""What an attacker has: an address, tokens, and connections whose bytes are counted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from publisher import AsyncPublisher
from tests.support.identity_provider import IdentityProvider
from tests.support.processes import GatewayProcess
from tests.support.raw import handshake_request
from tests.support.tokens import make_token

MARK = "open-sesame-3f9c"
"""Stands in whatever a client keeps secret and a node has no use for; no node may write or send it."""

ELSEWHERE = "127.0.0.3"
"""Where those come from whose address is refused for a while. The bystander comes from 127.0.0.1."""

_KERNEL_BYTES = 4_096
_MOST_READ = 65_536
_CUT_OFF = b'"code":"flood"'


@dataclass(frozen=True)
class Size:
    """How large an attack is.

    Attributes:
        seconds: how long what can be repeated is repeated.
        strangers: connections without a token that do so at once.
        clients: connections of clients that do so at once, each of another user.
        crowd: connections that only have to be there.
        messages: in a log.
    """

    seconds: float
    strangers: int
    clients: int
    crowd: int
    messages: int


SMALL = Size(seconds=0.4, strangers=20, clients=3, crowd=60, messages=200)
LARGE = Size(seconds=5.0, strangers=100, clients=10, crowd=1_000, messages=1_000)


class Ended(Exception):
    """The node has ended the connection, or let nobody in."""


@dataclass
class Target:
    """A node under attack.

    Attributes:
        url: where clients connect.
        drawn: bytes that the attacker was sent.
        leaks: what came back and should not have.
        tokens: those that the attacker has used.
        provider: that of the node's keys, if it fetches any.
        api_url: where its HTTP API is, if it has one.
    """

    node: GatewayProcess
    url: str
    size: Size
    publisher: AsyncPublisher
    drawn: int = 0
    leaks: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    provider: IdentityProvider | None = None
    api_url: str = ""

    def token(self, user: str, channels: list[str] | None = None, **claims: object) -> str:
        """A valid token."""
        self.tokens.append(make_token(user, channels, **claims))
        return self.tokens[-1]

    @contextlib.asynccontextmanager
    async def line(
        self,
        data: bytes = b"",
        *,
        reads: bool = True,
        source: str | None = None,
        to: str | None = None,
    ) -> AsyncIterator[Line]:
        """A connection over which ``data`` is sent.

        Args:
            reads: whether the kernel may take more than a few KB for it.
            source: the address it comes from.
            to: where it leads, if not where clients connect.

        Raises:
            Ended: it could not be opened.
        """
        parts = urlsplit(to or self.url)
        raw = socket.socket()
        raw.setblocking(False)
        try:
            if not reads:
                # Before connecting: the window is agreed upon then.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
            if source is not None:
                raw.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
            limit = _MOST_READ if reads else 1
            reader, writer = await asyncio.open_connection(sock=raw, limit=limit)
        except BaseException as error:
            raw.close()
            if isinstance(error, OSError):
                raise Ended from error
            raise
        line = Line(self, reader, writer)
        try:
            await line.send(data)
            yield line
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def client(
        self,
        user: str,
        channels: list[str] | None = None,
        *,
        extensions: str = "",
        reads: bool = True,
        **claims: object,
    ) -> AsyncIterator[Line]:
        """A connection that was let in.

        Raises:
            Ended: it was not.
        """
        token = self.token(user, channels, **claims)
        async with self.line(handshake_request(self.url, token, extensions), reads=reads) as line:
            if not (await line.head()).startswith(b"HTTP/1.1 101"):
                raise Ended
            yield line

    def hear(self, data: bytes) -> None:
        """Count what came back."""
        self.drawn += len(data)
        if MARK.encode() in data:
            self.leaks.append(data)

    async def for_some_time(self, act: Callable[[int], Awaitable[None]], at_once: int) -> None:
        """Do something over and over, so often at once; ``act`` is given the number of each."""
        until = asyncio.get_running_loop().time() + self.size.seconds

        async def over_and_over(number: int) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    while True:
                        with contextlib.suppress(Ended):
                            await act(number)
                        # Whoever is refused at once is at it again, and lets the others be measured.
                        await asyncio.sleep(0.001)

        await asyncio.gather(*map(over_and_over, range(at_once)))

    async def hold(self, crowd: list[contextlib.AbstractAsyncContextManager[Line]]) -> None:
        """Open all these connections, and hold them for the time that the size has."""
        async with contextlib.AsyncExitStack() as stack:
            for each in crowd:
                with contextlib.suppress(Ended):
                    await stack.enter_async_context(each)
            await asyncio.sleep(self.size.seconds)


class Line:
    """An attacker's connection."""

    def __init__(
        self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as fast as they are taken.

        Raises:
            Ended: nobody takes them any more.
        """
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError as error:
            raise Ended from error

    async def head(self) -> bytes:
        """The head of an answer.

        Raises:
            Ended: none came.
        """
        try:
            # One byte at a time where the kernel keeps next to nothing: what follows stays unread.
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await self._reader.readexactly(1)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Ended from error
        self._target.hear(head)
        return head

    async def until(self, text: bytes, times: int = 1) -> bytes:
        """Read until something was told so often, and return all that was read.

        Raises:
            Ended: it was not told.
        """
        told = b""
        while told.count(text) < times:
            told += await self._read()
        return told

    async def past(self, text: bytes) -> None:
        """Read until something was told, and keep nothing of it.

        Raises:
            Ended: it was not told.
        """
        told = b""
        while text not in told:
            told = told[-len(text) :] + await self._read()

    async def until_ended(self) -> None:
        """Read all that comes until the connection ends, or is about to."""
        with contextlib.suppress(Ended):
            while _CUT_OFF not in await self._read():
                pass

    async def flood(self, data: bytes) -> None:
        """Send ``data`` over and over, and read all that comes, until the connection ends or is about to."""
        reading = asyncio.create_task(self.until_ended())
        sending = asyncio.create_task(self._send_for_ever(data))
        try:
            await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, sending):
                task.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)

    async def flood_unread(self, data: bytes) -> None:
        """Send ``data`` over and over, and read nothing, until nobody takes it any more."""
        with contextlib.suppress(Ended):
            await self._send_for_ever(data)

    async def _send_for_ever(self, data: bytes) -> None:
        while True:
            await self.send(data)
            await asyncio.sleep(0)

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(_MOST_READ)
        except ConnectionError as error:
            raise Ended from error
        if not data:
            raise Ended
        self._target.hear(data)
        return data
