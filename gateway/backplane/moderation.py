"""Reading what comes live a little at a time when it is much, and less often when it is frequent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.backplane.reader import Reader
from gateway.node.ports import Clock

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
