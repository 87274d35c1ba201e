"""A gateway that says what the test wants, where no real one could be made to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.waiting import PATIENCE


class Visit:
    """One connection of a client: what it says can be waited for, and answered."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self.heard: list[dict[str, Any]] = []
        self._unread: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @property
    def authorization(self) -> str:
        """The header of that name."""
        assert self._socket.request is not None
        return self._socket.request.headers["Authorization"]

    async def pump(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = json.loads(await self._socket.recv())
                self.heard.append(message)
                self._unread.put_nowait(message)

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send messages, each in a frame."""
        for message in messages:
            await self._socket.send(json.dumps(message))

    async def expect(self, **message: Any) -> None:
        """The next message of the client, which must be this one."""
        async with asyncio.timeout(PATIENCE):
            assert await self._unread.get() == message

    async def greet(self) -> None:
        """Let the client in."""
        await self.say({"type": "connected", "message": "hello", "userId": "u"})

    async def publish(self, channel: str, *ids: int) -> None:
        """Messages with these ids, whose data is the id."""
        kind = channel.partition("/")[0]
        for each in ids:
            await self.say(
                {"type": kind, "channel": channel, "data": each, "timestamp": 0, "id": each}
            )

    async def close(self, code: int, reason: str = "") -> None:
        """End the connection."""
        await self._socket.close(code, reason)


class ScriptedGateway:
    """``url`` is where it is; each connection is a visit, in the order in which they come."""

    def __init__(self, url: str, visits: asyncio.Queue[Visit]) -> None:
        self.url = url
        self._visits = visits

    async def visit(self) -> Visit:
        """The next connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._visits.get()


@contextlib.asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """It ends with the block, and its connections with it."""
    visits: asyncio.Queue[Visit] = asyncio.Queue()

    async def serve_client(socket: ServerConnection) -> None:
        visit = Visit(socket)
        visits.put_nowait(visit)
        await visit.pump()

    async with serve(serve_client, "127.0.0.1", 0, close_timeout=0.5) as server:
        (listening,) = server.sockets
        yield ScriptedGateway(f"ws://127.0.0.1:{listening.getsockname()[1]}", visits)
