"""When the pub/sub connection is read, and how long it has been.

Much that comes at once is read a little at a time, and what comes often is read less often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.node.ports import Clock
from publisher.transport.connection import Reader

_LONGEST_TICK_SECONDS: Final = 0.5
"""What is longer was held up by the event loop, and counts no more than that."""


class ListeningTime:
    """The seconds in which the pub/sub connection was read by an event loop that was on time.

    Only in this time does silence prove anything: what has come while the node read nothing, or while
    its event loop stood still, waits unread in the buffers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted = 0.0
        self._began_at = clock()
        # Of the present tick: how long nothing was read, and since when nothing is.
        self._unread = 0.0
        self._throttled_at: float | None = None

    @property
    def seconds(self) -> float:
        """The time so far, from any one moment."""
        now = self._clock()
        unread = self._unread
        if self._throttled_at is not None:
            unread += now - self._throttled_at
        return self._counted + max(0.0, min(now - self._began_at, _LONGEST_TICK_SECONDS) - unread)

    def throttle(self, throttled: bool) -> None:
        """Nothing is read from now on, or it is again."""
        now = self._clock()
        if self._throttled_at is not None:
            self._unread += now - self._throttled_at
        self._throttled_at = now if throttled else None

    def tick(self) -> None:
        """Count what has passed since the last tick; to be called several times a second."""
        self._counted = self.seconds
        now = self._clock()
        self._began_at, self._unread = now, 0.0
        if self._throttled_at is not None:
            self._throttled_at = now


READ_BYTES_PER_TURN: Final = 64 * 1024
"""After as much, the rest waits for the next turn of the event loop, so that pongs, handshakes and the probe
have theirs. uvloop reads up to 256 KiB at once, so a turn brings less than that and this."""


class ModeratedReader(Reader):
    """Pauses for a moment while messages come one hard on the heels of the other.

    A message that wakes an idle process costs some 50 µs, most of it for waking up; one that comes together with
    others a few. So when reads follow each other within two moments, the next one is put off by a moment; what comes
    after a quiet while is read at once. (Network cards do the same, as interrupt moderation.)

    Args:
        moment: seconds a message may wait for others; 0 for none.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        handle: Callable[[Any], None],
        moment: float,
        clock: Clock,
    ) -> None:
        self._moment = moment
        self._clock = clock
        self._read_at = clock() - 2 * moment
        self._loop = asyncio.get_running_loop()
        self._waits = False
        self._throttled = False
        self._paused = False
        super().__init__(transport, handle)

    def data_received(self, data: bytes) -> None:
        """Part of the hot path."""
        super().data_received(data)
        if len(data) >= READ_BYTES_PER_TURN:
            self._waits = True
            self._set()
            self._loop.call_soon(self._go_on)
        elif self._moment:
            now = self._clock()
            if now - self._read_at < 2 * self._moment:
                self._waits = True
                self._set()
                self._loop.call_later(self._moment, self._go_on)
            self._read_at = now

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise: what was read is more than can be written at once."""
        self._throttled = throttled
        self._set()

    def _go_on(self) -> None:
        self._waits = False
        self._set()

    def _set(self) -> None:
        paused = self._waits or self._throttled
        if paused != self._paused and not self.transport.is_closing():
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
