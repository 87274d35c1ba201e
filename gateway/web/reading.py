"""Whether a client's bytes are read at the moment, and why not.

Of one client a few frames are served in a turn of the event loop; what is left waits, and nothing more is read of that
client meanwhile. All who wait share a part of each turn, so that a client that sends a lot delays nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from enum import IntFlag
from typing import Final

from gateway.node.ports import Clock
from gateway.web.incoming_frames import BYTES_PER_TURN

log = logging.getLogger(__name__)

SECONDS_PER_TURN: Final = 0.01
"""For all clients who have sent more than is served of one in a turn."""


class Reason(IntFlag):
    """Why a client is not read from."""

    UNSERVED = 1
    """It has sent more than is served in a turn."""

    CONGESTED = 2
    """More waits for it than may wait; what it would be answered comes on top."""

    FLOOD = 4
    """Its budget is exhausted. For good."""


class Turns:
    """Serves those who have sent more than is served in a turn, one after the other, in the next turns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[Reading] = deque()

    def wait(self, reading: Reading) -> None:
        """Let one go on in the next turns."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._serve)
        self._waiting.append(reading)

    def _serve(self) -> None:
        waiting = self._waiting
        until = self._clock() + SECONDS_PER_TURN
        for _ in range(len(waiting)):
            reading = waiting.popleft()
            try:
                if reading.go_on():
                    waiting.append(reading)
            except Exception:
                # One broken connection must not keep the others waiting for ever.
                log.exception("turn_failed")
            if self._clock() >= until:
                break
        if waiting:
            asyncio.get_running_loop().call_soon(self._serve)


class Reading:
    """Pauses a transport for as long as there is a reason, and keeps what it has read and nobody has served.

    Args:
        feed: takes bytes, and returns how many of them, at the end, are left for another turn.
    """

    __slots__ = ("_feed", "_position", "_reasons", "_transport", "_turns", "_unserved", "_waits")

    def __init__(
        self, transport: asyncio.Transport, feed: Callable[[bytes], int], turns: Turns
    ) -> None:
        self._transport = transport
        self._feed = feed
        self._turns = turns
        self._reasons = Reason(0)
        self._unserved = b""
        self._position = 0
        self._waits = False

    def paused_for(self, reason: Reason) -> bool:
        """Whether this is a reason to read nothing at the moment."""
        return reason in self._reasons

    def pause(self, reason: Reason) -> None:
        """Read nothing until the reason has gone."""
        if reason is Reason.FLOOD:
            # Nobody will hear it, and the connection may be there for seconds.
            self._unserved, self._position = b"", 0
        if not self._reasons and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons |= reason

    def resume(self, reason: Reason) -> None:
        """A reason has gone; if it was none, that is no error."""
        if reason not in self._reasons:
            return
        self._reasons &= ~reason
        if self._reasons == Reason.UNSERVED:
            self._wait()
        elif not self._reasons and not self._transport.is_closing():
            self._transport.resume_reading()

    def keep(self, data: bytes, position: int) -> None:
        """Keep what was read behind ``position`` for the next turns. It is one read at most."""
        if Reason.FLOOD in self._reasons:
            return
        self._unserved, self._position = data, position
        self.pause(Reason.UNSERVED)
        self._wait()

    def release(self) -> None:
        """The client is gone."""
        self._unserved = b""
        self._reasons = Reason.FLOOD

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._turns.wait(self)

    def go_on(self) -> bool:
        """Serve a turn's worth of what is kept; returns whether more of it may be served in the next one."""
        if self._reasons == Reason.UNSERVED:
            data = self._unserved[self._position : self._position + BYTES_PER_TURN]
            self._position += len(data) - self._feed(data)
            if self._position == len(self._unserved):
                self._unserved, self._position = b"", 0
                self.resume(Reason.UNSERVED)
        self._waits = self._reasons == Reason.UNSERVED
        return self._waits
