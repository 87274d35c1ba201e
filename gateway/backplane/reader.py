"""A connection to Redis that is read by hiredis in a plain asyncio protocol.

The client library opens it (TLS, authentication, Sentinel); from then on its reader would cost three
times the CPU for each reply, so this protocol takes the transport over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from publisher.packing import Argument

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def opened(pool: ConnectionPool, seconds: float) -> AsyncIterator[asyncio.Transport]:
    """A new connection's transport, closed at the block's end.

    Raises:
        RedisError, OSError: it could not be opened, within ``seconds`` at most.
    """
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(seconds):
            await connection.connect()  # type: ignore[no-untyped-call]
        yield _take_over(connection)
    finally:
        await connection.disconnect(nowait=True)


def _take_over(connection: AbstractConnection) -> asyncio.Transport:
    # The library has no public way to hand its transport over; a test holds it to this one.
    writer = connection._writer  # noqa: SLF001
    assert writer is not None
    return cast(asyncio.Transport, writer.transport)


def pack(command: Sequence[Argument]) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub is narrower
    return packed


class Reader(asyncio.Protocol):
    """Feeds what arrives to hiredis and hands every reply on.

    ``received`` counts how often something has come; ``lost`` is done when the connection is gone.

    Args:
        handle: takes each reply; an error that Redis answers with is a ``hiredis.ReplyError``.
    """

    def __init__(self, transport: asyncio.Transport, handle: Callable[[Any], None]) -> None:
        self.transport = transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._replies = hiredis.Reader()
        self._handle = handle
        transport.set_protocol(self)

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
        except hiredis.ProtocolError:
            log.exception("redis_protocol_error")
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        if not self.lost.done():
            self.lost.set_result(None)
