"""A handshake that aiohttp answers, and after which the connection is no longer aiohttp's.

What aiohttp keeps for a request (its protocol, parser, task, request and response) would be most of what an idle
connection costs. So its handler ends here, and the transport gets another protocol.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web


class Upgrade(web.WebSocketResponse):
    """The answer to a handshake, and the way out of aiohttp."""

    handed_over = False

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # As aiohttp's own, but for the parser. There is no public way to leave it out; the version is
        # pinned, and every test with a connection would fail without it.
        self._ws_protocol = protocol
        self._writer = writer
        self._early = _Early()
        request.protocol.set_parser(self._early)  # type: ignore[arg-type] # all that is asked of one
        request.protocol.keep_alive(False)

    def hand_over(self, request: web.BaseRequest, protocol: asyncio.Protocol) -> bytes | None:
        """Give the connection to ``protocol``.

        Returns what the client has sent since its request, or ``None`` when it has left.
        """
        former = request.protocol
        transport = former.transport
        if transport is None or transport.is_closing():
            return None
        former.transport = None
        transport.set_protocol(protocol)
        former.connection_lost(None)
        protocol.connection_made(transport)
        self.handed_over = True
        return self._early.data

    async def write_eof(self, data: bytes = b"") -> None:
        """Called when the handler returns, which ends nothing here."""


class _Early:
    """In the place of aiohttp's parser until the connection is handed over."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Keep what came."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is handed over, or lost, which its transport tells."""
