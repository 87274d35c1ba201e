"""A connection to Redis for asyncio: opened by the redis package, read by a plain protocol.

The package's own reader costs three times the CPU for each reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from publisher.transport.failures import FAILURES
from publisher.transport.resp import ProtocolError, replies

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def opened(connect: Callable[[], Any], seconds: float) -> AsyncIterator[asyncio.Transport]:
    """A new connection's transport, closed at the block's end.

    Args:
        connect: makes a connection of the redis package (``Connector``).
        seconds: how long opening it may take.

    Raises:
        RedisError, OSError: it could not be opened.
    """
    connection = connect()
    try:
        yield await _open(connection, seconds)
    finally:
        # Of a connection that is gone already the event loop may say so in any way.
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)


async def _open(connection: Any, seconds: float) -> asyncio.Transport:
    try:
        async with asyncio.timeout(seconds):
            await connection.connect()
        # The package has no public way to hand its transport over; a test holds it to this one.
        reader, writer = connection._reader, connection._writer  # noqa: SLF001
        transport = cast(asyncio.Transport, writer.transport)
        gone = transport.is_closing() or reader.at_eof()
    except FAILURES:
        raise
    except Exception as error:
        # uvloop raises a RuntimeError where asyncio raises a ConnectionError.
        raise RedisConnectionError(f"the connection could not be opened: {error}") from error
    if gone:
        # Nobody would tell the next protocol of an end that has already come.
        raise RedisConnectionError("the connection was closed while it was being opened")
    return transport


class Reader(asyncio.Protocol):
    """Reads what arrives and hands every reply on.

    ``received`` counts how often something has come; ``lost`` is done when the connection is gone.

    Args:
        handle: takes each reply; an error that Redis answers with is a ``ResponseError``.
    """

    def __init__(self, transport: asyncio.Transport, handle: Callable[[Any], None]) -> None:
        self.transport = transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._replies = replies()
        self._handle = handle
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Send ``data``, unless the connection is closing: ``lost`` tells of that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Part of the hot path: no await, no task, no object beyond the replies."""
        self.received += 1
        replies = self._replies
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                try:
                    self._handle(reply)
                except Exception:
                    log.exception("message_handler_failed")
        except ProtocolError:
            log.exception("redis_protocol_error")
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        if not self.lost.done():
            self.lost.set_result(None)
