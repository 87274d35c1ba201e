"""A client's connection, from the greeting to the end: the only file that writes to its transport."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from gateway.core import closing, frames
from gateway.core.closing import Closing
from gateway.core.frames import Encoding
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.requests import Requests
from gateway.web import tcp
from gateway.web.incoming_frames import Inbox, Listener
from gateway.web.reading import Reading, Reason, Turns

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame, and to take what was written before it."""

LINGER_SECONDS: Final = 1.0
"""How long a client that has taken all may take to close its side. No limit counts it any more, but it holds a file."""

_LONE_PING: Final = 3
"""Bytes of a ping of the heartbeat, the only frame that small. An idle client is written nothing else."""

Left = Callable[[Connection, int | None], None]
"""Told once that a client has left, and its close code; ``None`` when it is just gone."""


class SocketListener(Listener, Protocol):
    """Whoever talks with the client."""

    def congested(self) -> None:
        """More waits for the client than the transport likes."""

    def lost(self) -> None:
        """The transport is gone."""


class ClientSocket(asyncio.Protocol):
    """Implements ``ports.Socket`` on the transport of an upgraded connection.

    Args:
        encoding: how the client wants its messages.
        high_water: bytes that may wait for a client that does not read.
        turns: of the node.
        plain: the connection's socket, past the transport; ``None`` where the transport encrypts.
    """

    __slots__ = (
        "_closing",
        "_deadline",
        "_direct",
        "_drained",
        "_high_water",
        "_inbox",
        "_paused",
        "_piled",
        "_plain",
        "_reading",
        "_session",
        "_transport",
        "_turns",
        "_unproven",
        "encoding",
    )
    _transport: asyncio.Transport
    _inbox: Inbox
    _session: SocketListener
    there = False

    def __init__(
        self, encoding: Encoding, high_water: int, turns: Turns, plain: socket.socket | None
    ) -> None:
        self.encoding = encoding
        self._plain = plain
        # The same, while nothing waits in the transport and no close frame was sent: only then is the order kept.
        self._direct: socket.socket | None = None
        self._turns = turns
        self._reading: Reading | None = None  # most clients are always read from
        self._high_water = high_water
        self._paused = False
        self._closing = False
        self._piled = 0
        self._unproven = False
        self._deadline: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    def serve(self, session: SocketListener, max_message_bytes: int) -> None:
        """Tell ``session`` what comes from now on."""
        compress = bool(self.encoding.window_bits)
        self._session = session
        self._inbox = Inbox(session, max_message_bytes, compress=compress)

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Hand over whole frames; never waits. ``False`` above the high-water mark.

        While nothing waits in the transport, they go to the system directly, which costs less.
        """
        if len(data) > _LONE_PING:
            self._unproven = True
        if self._direct is None:
            return self._hand_over(data)
        try:
            sent = self._direct.send(data)
        except OSError:
            sent = 0  # it has no room; or the transport meets the error as well, and ends
        # Not a copy: what is left may be the same bytes for many.
        return sent == len(data) or self._hand_over(memoryview(data)[sent:])

    def _hand_over(self, data: bytes | memoryview) -> bool:
        """Let the transport write, or keep what the system has no room for."""
        transport = self._transport
        if self._closing or transport.is_closing():
            return True
        transport.write(data)
        # One that closes may have dropped the end of a frame: nothing may follow it.
        self._direct = None if self.waiting or transport.is_closing() else self._plain
        if not self._paused:
            return True
        self._piled += len(data)
        if self.waiting <= self._high_water:
            return True
        # What it would be answered comes on top.
        self._read().pause(Reason.CONGESTED)
        return False

    @property
    def waiting(self) -> int:
        """Bytes that the system has not taken over yet."""
        return self._transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """Bytes that have reached the client, or that the system has taken, where it does not tell: only differences count."""
        acknowledged = tcp.acknowledged(self._transport)
        return self._piled - self.waiting if acknowledged is None else acknowledged

    @property
    def untaken(self) -> int:
        """Bytes that were written and have not reached the client; 0 where nothing but pings has been written.

        It is looked at before each ping, and asking the system costs as much as the ping.
        """
        if not self._unproven:
            return 0
        untaken = self.waiting + tcp.unacknowledged(self._transport)
        self._unproven = bool(untaken)
        return untaken

    @property
    def arrived(self) -> int:
        """Bytes that have come from the client, also those not read yet; 0 where the system does not tell."""
        return tcp.arrived(self._transport) or 0

    @property
    def quiet(self) -> float:
        """Seconds since bytes came from the client; ``inf`` where the system does not tell."""
        seconds = tcp.quiet(self._transport)
        return math.inf if seconds is None else seconds

    @property
    def congested(self) -> bool:
        """Whether the transport has asked to pause, and not yet to go on (its own two marks)."""
        return self._paused and not self._transport.is_closing()

    @property
    def unheard(self) -> bool:
        """Whether nothing is read of the client, because too much waits for it."""
        return self._reading is not None and self._reading.paused_for(Reason.CONGESTED)

    async def drained(self) -> None:
        """Wait until it is not congested, or the client is gone."""
        if self.congested:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            # Shared by all who wait; one that gives up must not end the others' wait.
            await asyncio.shield(self._drained)

    def close(self, reason: Closing) -> None:
        """Send a close frame after all that was written; the client has some seconds to answer it."""
        self._say_goodbye(reason)
        # A client that is gone takes nothing more: what still waits for it would wait for ever.
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(CLOSE_TIMEOUT_SECONDS, self._transport.abort)

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

    def _end_writing(self) -> None:
        self._closing = True
        self._direct = None

    def stop_reading(self) -> None:
        """Hear nothing more of a connection that is closing: it would keep the node busy until its time is up.

        Its answer to the close frame will not be seen, so it need not be waited for.
        """
        reading = self._read()
        if not reading.paused_for(Reason.FLOOD):
            reading.pause(Reason.FLOOD)
            self._leave()

    def _read(self) -> Reading:
        if self._reading is None:
            self._reading = Reading(self._transport, self._inbox.feed, self._turns)
        return self._reading

    def _leave(self) -> None:
        """Send nothing after the close frame, and leave when the client does."""
        transport = self._transport
        if not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()
        self._linger(CLOSE_TIMEOUT_SECONDS)

    def _linger(self, left: float) -> None:
        self._cancel_deadline()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(LINGER_SECONDS, self._lingered, left - LINGER_SECONDS)

    def _lingered(self, left: float) -> None:
        # Where not all was read of it, a reset follows, and the system sends nothing more: not the close frame either.
        if left > 0 and self.untaken:
            self._linger(left)
        else:
            self._transport.abort()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ours from now on."""
        self._transport = cast(asyncio.Transport, transport)

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
        self._paused = False
        if self._reading is not None:
            self._reading.resume(Reason.CONGESTED)
        self._wake()

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

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


class Session:
    """Hands on what a client says, and sees to it that its end is noticed once."""

    __slots__ = ("_connection", "_left", "_lifetimes", "_requests", "_socket")

    def __init__(
        self,
        lifetimes: Lifetimes,
        requests: Requests,
        connection: Connection,
        socket: ClientSocket,
        left: Left,
    ) -> None:
        self._lifetimes = lifetimes
        self._requests = requests
        self._connection = connection
        self._socket = socket
        self._left: Left | None = left

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

    def _end(self, code: int | None, reason: Closing) -> None:
        left, self._left = self._left, None
        if left is None:
            return
        try:
            left(self._connection, code)
        except Exception:
            log.exception("departure_failed connection=%s", self._connection.id)
        self._socket.finish(reason)
