"""An event stream to a client (Server-Sent Events), from the greeting to the end."""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable
from typing import Final

from gateway.core import closing, events
from gateway.core.closing import Closing
from gateway.core.encodings import Encoding
from gateway.core.events import COMMENT, WITH_IDS
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.streams import RESUME, Stream, Streams
from gateway.web import tcp
from gateway.web.outgoing import Outgoing, Writer
from gateway.web.socket import Leaving

log = logging.getLogger(__name__)

_MOST_HEARD: Final = 64 * 1024
"""Bytes that a client may send behind its request. Nobody reads them, and no client has a reason to send any."""

_CLOSED_BY_CLIENT: Final = 1005
"""It leaves as a browser does that sends no close code."""

RETRY: Final = (2_000, 5_000)
"""Milliseconds after which a client comes back whose stream has broken: each is given another time in between."""
_FOR_EVER: Final = (604_800_000, 604_800_000)
"""An ``EventSource`` cannot be told to stay away. A week is for ever, for a page."""
_RETRY_AFTER: Final = {
    RESUME: (20, 100),
    closing.DRAINING: (200, 5_000),
    closing.SLOW_CONSUMER: (5_000, 15_000),
    closing.INTERNAL_ERROR: (5_000, 15_000),
    closing.REPLACED: _FOR_EVER,
    closing.FLOOD: _FOR_EVER,
}


def retry(bounds: tuple[int, int]) -> bytes:
    """Tell a client when to come back, each at a time of its own."""
    return events.retry(random.randint(*bounds))  # noqa: S311 - to spread a crowd


class EventSocket(Outgoing):
    """Implements ``ports.Socket`` for an event stream, which ends with its connection (RFC 9112 §6.3).

    Args:
        encoding: how its messages name their positions.
        where: its position, for messages that do not name it. It is told behind them, but no more bytes of it than of messages, since
            there is much to tell of many channels: at the latest with the next comment, and at the end.
    """

    __slots__ = ("_heard", "_session", "_told", "_untold", "_where", "encoding")
    _session: Writer
    unheard = False

    def __init__(
        self,
        encoding: Encoding,
        high_water: int,
        plain: socket.socket | None,
        where: Callable[[], bytes],
    ) -> None:
        super().__init__(high_water, plain)
        self.encoding = encoding
        self._where = where
        self._told = b""
        self._untold = 0
        self._heard = 0

    def serve(self, session: Writer) -> None:
        """Tell ``session`` what becomes of the connection."""
        self._session = session

    def write(self, data: bytes) -> bool:
        """Hand over whole events; never waits. ``False`` above the high-water mark."""
        if self.encoding is not WITH_IDS:
            if data != COMMENT:
                self._untold += len(data)
            if self._untold >= len(self._told) or (self._untold and data.endswith(COMMENT)):
                data += self._position()
        return super().write(data)

    def _position(self) -> bytes:
        self._untold = 0
        position = self._where()
        if not position or position == self._told:
            return b""
        self._told = position
        return events.position(position)

    @property
    def there(self) -> bool:
        """Whether the client has taken all that was written. Its system does that, as long as the client is there."""
        transport = self._transport
        return not (
            self._closing or transport.is_closing() or self.waiting or tcp.unacknowledged(transport)
        )

    def close(self, reason: Closing) -> None:
        """Say when to come back, after all that was written, and end the stream."""
        position = self._position() if self._untold else b""
        super().write(position + retry(_RETRY_AFTER.get(reason, RETRY)))
        self.stop_reading()

    def stop_reading(self) -> None:
        """End the stream. A client cannot say anything on it."""
        if not self._closing:
            self._end_writing()
            self._leave()

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """It has no more to say."""
        self._heard += len(data)
        if self._heard > _MOST_HEARD:
            self._transport.abort()

    def pause_writing(self) -> None:
        """More waits for the client than the transport likes."""
        self._paused = True
        self._session.congested()

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        self._end_writing()
        self._plain = None
        self._wake()
        self._session.lost()
        self._cancel_deadline()
        del self._session, self._where


class StreamSession:
    """Sees to it that the end of a stream is noticed."""

    __slots__ = ("_leaving", "_lifetimes", "_stream", "_streams")

    def __init__(
        self, lifetimes: Lifetimes, streams: Streams, stream: Stream, leaving: Leaving
    ) -> None:
        self._lifetimes = lifetimes
        self._streams = streams
        self._stream = stream
        self._leaving = leaving

    @property
    def connection(self) -> Connection:
        """Whose it is."""
        return self._stream.connection

    def begin(self, answer: bytes) -> None:
        """Answer the client's request, greet the client, and subscribe to what it has asked for."""
        try:
            name = {"poll" if self._stream.polls else "stream": self._stream.name}
            self._lifetimes.begin(self.connection, answer, **name)
            self._streams.begin(self._stream)
        except Exception:
            log.exception("stream_failed connection=%s", self.connection.id)
            self._lifetimes.fail(self.connection)

    def congested(self) -> None:
        """The client has much to take."""
        self._lifetimes.congested(self.connection)

    def lost(self) -> None:
        """The client is gone."""
        self._streams.leave(self._stream)
        try:
            self._leaving.left(self.connection, _CLOSED_BY_CLIENT)
        except Exception:
            log.exception("departure_failed connection=%s", self.connection.id)
        self._leaving.gone()
