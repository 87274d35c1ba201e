"""The only file that writes to a client's transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.core.closing import Closing
from gateway.core.frames import Encoding
from gateway.node.tasks import Tasks

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame."""


class ClientSocket:
    """Implements ``ports.Socket`` on an upgraded aiohttp response.

    Frames go straight to the transport: aiohttp's own writer would build each frame anew for each
    socket. It still reads, and still closes.

    Args:
        max_buffer_bytes: how much may wait for a client that does not read.
        overflow: called once when more than that waits.
    """

    __slots__ = (
        "_closing",
        "_ending",
        "_farewells",
        "_max_buffer",
        "_overflow",
        "_protocol",
        "_response",
        "_transport",
        "encoding",
    )

    def __init__(
        self,
        request: web.BaseRequest,
        response: web.WebSocketResponse,
        farewells: Tasks,
        *,
        batch: bool,
        max_buffer_bytes: int,
        overflow: Callable[[], None],
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left during the handshake")
        self._transport = transport
        self._protocol = request.protocol
        self._response = response
        self._farewells = farewells
        self._max_buffer = max_buffer_bytes
        self._overflow = overflow
        self._closing = False
        self._ending: asyncio.Task[None] | None = None
        self.encoding = Encoding(int(response.compress), batch)

    def write(self, data: bytes) -> None:
        """Hand over whole frames; never waits."""
        transport = self._transport
        if self._closing or transport.is_closing():
            return
        transport.write(data)
        if self._protocol.writing_paused and transport.get_write_buffer_size() > self._max_buffer:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._overflow)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written, or is gone."""
        if self._protocol.writing_paused and not self._transport.is_closing():
            writer = self._response._payload_writer  # noqa: SLF001 - aiohttp has no public drain
            if writer is not None:
                try:
                    await writer.drain()
                except ConnectionError:
                    return

    def close(self, closing: Closing) -> None:
        """Send a close frame after all that was written, and end the connection soon after."""
        self._closing = True
        self._ending = self._farewells.spawn(self._close(closing), "close socket")

    async def closed(self) -> None:
        """Return once a close that this side began has come to its end."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    async def _close(self, closing: Closing) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._response.close(
                    code=closing.code, message=closing.reason.encode(), drain=False
                )
        except TimeoutError:
            pass
        finally:
            # A client that is gone takes nothing more: what still waits for it would wait for ever.
            if self._transport.get_write_buffer_size():
                self._transport.abort()
