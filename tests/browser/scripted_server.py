"""A server that ends connections as a test says, for what a gateway would do only in trouble."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.support.served import served


@dataclass
class ScriptedServer:
    """Greets each client as a gateway does, and closes as many connections as there are ``closings``.

    ``opened`` and ``closed`` hold the times at which that happened.
    """

    port: int = 0
    closings: list[tuple[int, str]] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pauses(self) -> list[float]:
        """Seconds from each close to the next connection."""
        return [
            opened - closed for opened, closed in zip(self.opened[1:], self.closed, strict=False)
        ]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedServer]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_get("/", self._serve)
        async with served(app) as self.port:
            yield self

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("realtime",))
        await socket.prepare(request)
        self.opened.append(time.monotonic())
        await socket.send_json({"type": "connected", "message": "…", "userId": "u"})
        if self.closings:
            code, reason = self.closings.pop(0)
            self.closed.append(time.monotonic())
            await socket.close(code=code, message=reason.encode())
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.json()["type"] == "heartbeat":
                await socket.send_json({"type": "heartbeat", "timestamp": 0})
        return socket
