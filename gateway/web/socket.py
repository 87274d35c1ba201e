"""A WebSocket of a client, from the greeting to the end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core import closing, frames
from gateway.core.closing import Closing
from gateway.core.encodings import Encoding
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.requests import Requests
from gateway.web.incoming_frames import Inbox, Listener
from gateway.web.outgoing import Outgoing, Writer
from gateway.web.reading import Reading, Reason, Turns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Whom to tell that a client leaves, once each.

    Attributes:
        left: that it has left, and its close code; ``None`` when it is just gone.
        gone: that its connection is over, and holds nothing any more.
    """

    left: Callable[[Connection, int | None], None]
    gone: Callable[[], None]


class SocketListener(Listener, Writer, Protocol):
    """Whoever talks with the client."""


class ClientSocket(Outgoing):
    """Implements ``ports.Socket`` on the transport of an upgraded connection.

    Args:
        encoding: how the client wants its messages.
        high_water: bytes that may wait for a client that does not read.
        turns: of the node.
        plain: the connection's socket, past the transport; ``None`` where the transport encrypts.
    """

    __slots__ = ("_inbox", "_reading", "_session", "_turns", "encoding")
    _inbox: Inbox
    _session: SocketListener
    there = False

    def __init__(
        self, encoding: frames.Encoding, high_water: int, turns: Turns, plain: socket.socket | None
    ) -> None:
        super().__init__(high_water, plain)
        self.encoding: Encoding = encoding
        self._turns = turns
        self._reading: Reading | None = None  # most clients are always read from

    def serve(self, session: SocketListener, max_message_bytes: int) -> None:
        """Tell ``session`` what comes from now on."""
        compress = isinstance(self.encoding, frames.Encoding) and bool(self.encoding.window_bits)
        self._session = session
        self._inbox = Inbox(session, max_message_bytes, compress=compress)

    def close(self, reason: Closing) -> None:
        """Send a close frame after all that was written; the client has some seconds to answer it."""
        self._say_goodbye(reason)
        self._give_up_later()

    def finish(self, reason: Closing = closing.NORMAL) -> None:
        """The conversation has ended: send a close frame, unless one was sent, and leave when the client does.

        If the connection were closed at once, what the client is still sending would draw a reset, and the client
        might lose the close frame to it (RFC 6455 §7.1.1).
        """
        if not self._closing:
            self._say_goodbye(reason)
        self._leave()

    def _say_goodbye(self, reason: Closing) -> None:
        self.write(frames.close(reason))
        self._end_writing()

    def stop_reading(self) -> None:
        """Hear nothing more of a connection that is closing: it would keep the node busy until its time is up.

        Its answer to the close frame will not be seen, so it need not be waited for.
        """
        reading = self._read()
        if not reading.paused_for(Reason.FLOOD):
            reading.pause(Reason.FLOOD)
            self._leave()

    @property
    def unheard(self) -> bool:
        """Whether nothing is read of the client, because too much waits for it."""
        return self._reading is not None and self._reading.paused_for(Reason.CONGESTED)

    def _stop_hearing(self) -> None:
        self._read().pause(Reason.CONGESTED)

    def _read(self) -> Reading:
        if self._reading is None:
            self._reading = Reading(self._transport, self._inbox.feed, self._turns)
        return self._reading

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Part of the hot path: no await, no task, no queue."""
        left = self._inbox.feed(data)
        if left:
            self._read().keep(data, len(data) - left)

    def pause_writing(self) -> None:
        """More waits for the client than the transport likes."""
        self._paused = True
        self._session.congested()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        if self._reading is not None:
            self._reading.resume(Reason.CONGESTED)
        super().resume_writing()

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        self._end_writing()
        self._plain = None
        self._wake()
        self._session.lost()
        self._cancel_deadline()
        # They know this socket and each other: without the cycles all is freed at once, not at some collection.
        self._inbox.release()
        if self._reading is not None:
            self._reading.release()
        del self._session, self._inbox, self._reading


class Session:
    """Hands on what a client says, and sees to it that its end is noticed once."""

    __slots__ = ("_connection", "_has_left", "_leaving", "_lifetimes", "_requests", "_socket")

    def __init__(
        self,
        lifetimes: Lifetimes,
        requests: Requests,
        connection: Connection,
        socket: ClientSocket,
        leaving: Leaving,
    ) -> None:
        self._lifetimes = lifetimes
        self._requests = requests
        self._connection = connection
        self._socket = socket
        self._leaving = leaving
        self._has_left = False

    def begin(self, max_message_bytes: int, answer: bytes, early: bytes) -> None:
        """Answer the client's request, greet the client, and serve what it has said ``early`` and will say."""
        self._socket.serve(self, max_message_bytes)
        try:
            self._lifetimes.begin(self._connection, answer)
        except Exception as error:  # noqa: BLE001 - logged there
            self.failed(error)
        if early:
            self._socket.data_received(early)

    def arrived(self, cost: float) -> bool:
        """Bytes came."""
        return self._requests.arrived(self._connection, cost)

    def text(self, message: bytes, paid: float = 0.0) -> None:
        """A text message came."""
        self._requests.text(self._connection, message, paid)

    def binary(self, message: bytes) -> None:
        """A binary message came."""
        self._requests.binary(self._connection, message)

    def ping(self, payload: bytes) -> None:
        """A ping came."""
        self._requests.ping(self._connection, payload)

    def pong(self, payload: bytes) -> None:
        """A pong came."""
        self._requests.pong(self._connection, payload)

    def congested(self) -> None:
        """The client has much to take."""
        self._lifetimes.congested(self._connection)

    def failed(self, error: Exception) -> None:
        """Something it said could not be served."""
        log.error("message_failed connection=%s", self._connection.id, exc_info=error)
        self._lifetimes.fail(self._connection)

    def closed(self, code: int) -> None:
        """The client has closed, or answered our close frame."""
        self._end(code, closing.NORMAL)

    def violated(self, code: int) -> None:
        """The client has broken the protocol."""
        self._end(code, Closing(code, ""))

    def lost(self) -> None:
        """The client is gone."""
        self._end(None, closing.NORMAL)
        self._leaving.gone()

    def _end(self, code: int | None, reason: Closing) -> None:
        if self._has_left:
            return
        self._has_left = True
        try:
            self._leaving.left(self._connection, code)
        except Exception:
            log.exception("departure_failed connection=%s", self._connection.id)
        self._socket.finish(reason)
