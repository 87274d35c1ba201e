"""A WebSocket client for tests that says what it expects."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.support.waiting import PATIENCE

_END = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.ERROR,
)


class Client:
    """One connection; every message that arrives is a dict."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._frames: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()

    async def pump(self) -> None:
        """Take frames as they come, as every real client does: pings are answered meanwhile."""
        while True:
            frame = await self.socket.receive()
            self._frames.put_nowait(frame)
            if frame.type in _END:
                return

    async def send(self, message: Any) -> None:
        """Send a message, or text as it is."""
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> Any:
        """The next message."""
        async with asyncio.timeout(PATIENCE):
            frame = await self._frames.get()
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        return json.loads(frame.data)

    async def expect(self, **fields: Any) -> Any:
        """The next message, which must have these fields."""
        message = await self.receive()
        assert {name: message.get(name) for name in fields} == fields, message
        return message

    async def expect_close(self) -> tuple[int, str]:
        """The close code and reason; nothing else may come before."""
        async with asyncio.timeout(PATIENCE):
            frame = await self._frames.get()
        assert frame.type in _END, frame
        return self.socket.close_code or 0, str(frame.extra or "")

    async def subscribe(self, channel: str, since: int | None = None) -> Any:
        """Subscribe, and return the answer."""
        message: dict[str, Any] = {"type": "subscribe", "channel": channel}
        if since is not None:
            message["since"] = since
        await self.send(message)
        return await self.expect(type="subscribed", channel=channel)

    async def data(self, count: int) -> list[Any]:
        """The data of the next ``count`` messages."""
        return [(await self.receive())["data"] for _ in range(count)]

    async def sync(self) -> None:
        """Return when the server has served all that was sent; nothing else may arrive meanwhile."""
        await self.send({"type": "heartbeat"})
        await self.expect(type="heartbeat")

    async def close(self) -> None:
        """Close in order."""
        await self.socket.close()

    def rest(self) -> list[Any]:
        """What has arrived and was not asked for."""
        frames = [self._frames.get_nowait() for _ in range(self._frames.qsize())]
        return [json.loads(each.data) for each in frames if each.type is aiohttp.WSMsgType.TEXT]


@contextlib.asynccontextmanager
async def connected(url: str, token: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """Open a connection, and see the greeting."""
    async with opened(url, token, **options) as client:
        await client.expect(type="connected")
        yield client


@contextlib.asynccontextmanager
async def opened(url: str, token: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """Open a connection, whatever comes of it."""
    query = options.pop("query", "")
    address = f"{url}/?token={token}{query}" if token is not None else url
    options.setdefault("max_msg_size", 0)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, **options) as socket,
    ):
        client = Client(socket)
        pump = asyncio.create_task(client.pump())
        try:
            yield client
        finally:
            await socket.close()
            await pump
