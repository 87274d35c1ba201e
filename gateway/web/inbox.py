"""What clients send, served as it is parsed.

aiohttp parses frames (in C) and puts each message into a queue, from which a task takes it. Nothing
here waits while it serves a message, so the queue is left out, and with it the task that would have to be
woken: for a pong, which comes up to once a second from each client, that costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

_SERVED: Final = {WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG}
_EARLY_BYTES: Final = 64 * 1024
"""What may come before the connection is set up."""

Serve = Callable[[Any], None]


class _Inbox(WebSocketDataQueue):
    """A queue that, once somebody serves it, holds nothing but the end of the stream."""

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__(request.protocol, _EARLY_BYTES, loop=request._loop)  # noqa: SLF001
        self.serve: Serve | None = None

    def feed_data(self, data: Any, size: int) -> None:
        """Take a message from the parser."""
        if self.serve is not None and data.type in _SERVED:
            self.serve(data)
        else:
            super().feed_data(data, size)


class ServedResponse(web.WebSocketResponse):
    """A WebSocket whose messages are served by a callback; :meth:`serve` returns when it ends."""

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # As aiohttp's own, but for the queue. There is no public way to bring one; the version is
        # pinned, and every test with a connection would fail without it.
        self._ws_protocol = protocol
        self._writer = writer
        self._inbox = self._reader = _Inbox(request)
        self._parser = WebSocketReader(
            self._reader, self._max_msg_size, compress=bool(self._compress), decode_text=True
        )
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)

    async def serve(self, serve: Serve) -> None:
        """Give every message to ``serve``, also those that came already, until the stream ends.

        ``serve`` is called by the parser and must not raise.
        """
        inbox = self._inbox
        while inbox._buffer and inbox._buffer[0][0].type in _SERVED:  # noqa: SLF001
            serve(await inbox.read())  # one is there, so this does not wait
        inbox.serve = serve
        await self.receive()
