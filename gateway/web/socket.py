"""The only file that writes to a client's transport."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from aiohttp import web

from gateway.core import closing, frames
from gateway.core.closing import Closing
from gateway.core.frames import Encoding

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame."""


class ClientSocket:
    """Implements ``ports.Socket`` on an upgraded aiohttp response, which reads and parses.

    Frames go straight to the transport: aiohttp's own writer would build each frame anew for each
    socket, and while it closes a connection it would throw away the pongs that still come.

    Args:
        high_water: bytes that may wait for a client that does not read.
    """

    __slots__ = (
        "_closing",
        "_code",
        "_deadline",
        "_draining",
        "_high_water",
        "_piled",
        "_protocol",
        "_transport",
        "encoding",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.WebSocketResponse,
        *,
        batch: bool,
        high_water: int,
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left during the handshake")
        self._transport = transport
        self._protocol = request.protocol
        self._high_water = high_water
        self._closing = False
        self._piled = 0
        self._code: int | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._draining: asyncio.Task[None] | None = None
        self.encoding = Encoding(int(response.compress), batch)

    def write(self, data: bytes) -> bool:
        """Hand over whole frames; never waits. ``False`` above the high-water mark."""
        transport = self._transport
        if self._closing or transport.is_closing():
            return True
        transport.write(data)
        if not self._protocol.writing_paused:
            return True
        self._piled += len(data)
        return self.waiting <= self._high_water

    @property
    def closed_with(self) -> int | None:
        """The code that this side closed it with."""
        return self._code

    @property
    def waiting(self) -> int:
        """Bytes that the system has not taken over yet."""
        return self._transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """What was written while it is congested, less what still waits of it: only differences count."""
        return self._piled - self.waiting

    @property
    def congested(self) -> bool:
        """Whether the transport has asked to pause, and not yet to go on (its own two marks)."""
        return self._protocol.writing_paused and not self._transport.is_closing()

    async def drained(self) -> None:
        """Wait until it is not congested, or the client is gone."""
        if self.congested:
            if self._draining is None or self._draining.done():
                self._draining = asyncio.create_task(self._drain(), name="drain socket")
            # Shared by all who wait; one that gives up must not end the others' wait.
            await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        # aiohttp has no public drain but its own writer's.
        with contextlib.suppress(ConnectionError):
            await self._protocol._drain_helper()  # noqa: SLF001

    def close(self, reason: Closing) -> None:
        """Send a close frame after all that was written; the client has some seconds to answer it."""
        self.write(frames.close(reason))
        self._closing = True
        self._code = int(reason.code)
        # A client that is gone takes nothing more: what still waits for it would wait for ever.
        self._end_in(CLOSE_TIMEOUT_SECONDS)

    def finish(self) -> None:
        """The conversation has ended: answer the client's close frame, if it was first, and leave."""
        if not self._closing:
            self.write(frames.close(closing.NORMAL))
            self._closing = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._draining is not None:
            self._draining.cancel()
        self._transport.close()
        if self.waiting:
            self._end_in(CLOSE_TIMEOUT_SECONDS)

    def _end_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, self._transport.abort)
