"""The writing half of a client's connection: only what is here writes to its transport."""

from __future__ import annotations

import asyncio
import math
import socket
from typing import Final, Protocol

from gateway.web import tcp
from gateway.web.transport_owner import TransportOwner

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame, and to take what was written before it."""

LINGER_SECONDS: Final = 1.0
"""How long a client that has taken all may take to close its side. Its user has the place back, and the node not yet the room."""

_LONE_PING: Final = 3
"""Bytes of a ping of the heartbeat, the only frame that small. An idle client is written nothing else."""


class Writer(Protocol):
    """Whoever writes to the client."""

    def congested(self) -> None:
        """More waits for the client than the transport likes."""

    def lost(self) -> None:
        """The transport is gone."""


class Outgoing(TransportOwner):
    """Writes to a client, and knows what it has taken: that part of ``ports.Socket`` which is the same for all.

    Args:
        high_water: bytes that may wait for a client that does not read.
        plain: the connection's socket, past the transport; ``None`` where the transport encrypts.
    """

    __slots__ = (
        "_closing",
        "_direct",
        "_drained",
        "_high_water",
        "_paused",
        "_piled",
        "_plain",
        "_unproven",
    )

    def __init__(self, high_water: int, plain: socket.socket | None) -> None:
        super().__init__()
        self._plain = plain
        # The same, while nothing waits in the transport and no end was written: only then is the order kept.
        self._direct: socket.socket | None = None
        self._high_water = high_water
        self._paused = False
        self._closing = False
        self._piled = 0
        self._unproven = False
        self._drained: asyncio.Future[None] | None = None

    # -- writing ------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Hand over whole frames or events; never waits. ``False`` above the high-water mark.

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
        self._stop_hearing()
        return False

    def _stop_hearing(self) -> None:
        """More waits for the client than may wait: what it would be answered comes on top."""

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

    async def drained(self) -> None:
        """Wait until it is not congested, or the client is gone."""
        if self.congested:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            # Shared by all who wait; one that gives up must not end the others' wait.
            await asyncio.shield(self._drained)

    # -- the end ------------------------------------------------------------------------------

    def _end_writing(self) -> None:
        self._closing = True
        self._direct = None

    def _give_up_later(self) -> None:
        """A client that is gone takes nothing more: what still waits for it would wait for ever."""
        self._set_deadline(CLOSE_TIMEOUT_SECONDS, self._transport.abort)

    def _leave(self) -> None:
        """Send nothing more, and leave when the client does."""
        transport = self._transport
        if not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()
        self._linger(CLOSE_TIMEOUT_SECONDS)

    def _linger(self, left: float) -> None:
        self._set_deadline(LINGER_SECONDS, self._lingered, left - LINGER_SECONDS)

    def _lingered(self, left: float) -> None:
        # Where not all was read of it, a reset follows, and the system sends nothing more: not the close frame either.
        if left > 0 and self.untaken:
            self._linger(left)
        else:
            self._transport.abort()

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
