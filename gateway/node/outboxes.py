"""What is due to the sockets: laid into the outboxes of connections, and written to each socket once in a turn of the event loop.

When that is more than a turn bears, the rest is written in the next ones, before anything more is read from Redis. Nothing here
waits for a socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from gateway.node.connection import Connection
from gateway.node.stats import Stats

log = logging.getLogger(__name__)

WRITES_PER_TURN: Final = 1_000
BYTES_PER_TURN: Final = 8 * 1024 * 1024
"""What is handed to sockets in one turn of the event loop, some ten milliseconds' worth. A burst to more is carried on in the next turns, so that
pongs, handshakes and the probe are not kept waiting. Nothing more is read from Redis meanwhile: it would be copied for each socket that waits."""


class Outboxes:
    """Fills the connections' outboxes, and empties them into their sockets.

    ``scheduled``: something is still to be written. ``congested``: it is more than a turn bears.

    Args:
        call_soon: runs a callback at the end of what is being read, or of this turn (``ReadTurn.call_soon``).
        lay_out: lays what came in this turn into the outboxes, before they are emptied.
        behind: told of a connection for which more waits than may wait.
        congested: told when more waits to be written than a turn of the event loop bears, and when it does no longer.
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        lay_out: Callable[[], None],
        stats: Stats,
        behind: Callable[[Connection], object],
        congested: Callable[[bool], object],
    ) -> None:
        self._call_soon = call_soon
        self._lay_out = lay_out
        self._stats = stats
        self._tell_behind = behind
        self._tell_congested = congested
        self._outgoing: list[Connection] = []
        self.scheduled = self.congested = False

    def send(self, connection: Connection, data: bytes) -> None:
        """Lay whole frames into a connection's outbox, to be written at the end of this turn."""
        if not data:
            return
        if not connection.outbox:
            self._outgoing.append(connection)
            self.schedule()
        connection.outbox += data

    def schedule(self) -> None:
        """Let this turn end with :meth:`flush`."""
        if not self.scheduled:
            self.scheduled = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """End the turn: encode what came in, and write to each socket once, to so many as a turn bears."""
        self.scheduled = False
        self._lay_out()
        outgoing, self._outgoing = self._outgoing, []
        room, written = BYTES_PER_TURN, 0
        behind: list[Connection] = []
        for number, connection in enumerate(outgoing):
            if number == WRITES_PER_TURN or room < 0:
                self._outgoing += outgoing[number:]
                self.schedule()
                break
            data, connection.outbox = connection.outbox, b""
            if not data:  # flush_to was faster
                continue
            written += 1
            try:
                if not connection.write(data):
                    behind.append(connection)
            except Exception:
                # One broken socket must not cost the others their messages.
                log.exception("write_failed connection=%s", connection.id)
            room -= len(data)
        self._stats.socket_writes += written
        self._stats.socket_bytes += BYTES_PER_TURN - room
        if not self._outgoing:
            self._stats.timings.written()
        if bool(self._outgoing) != self.congested:
            self.congested = not self.congested
            self._tell_congested(self.congested)
        for connection in behind:
            self._tell_behind(connection)

    def flush_to(self, connection: Connection) -> None:
        """Write what is due to one connection now, whatever the others have to wait for."""
        self._lay_out()
        data, connection.outbox = connection.outbox, b""
        if data:
            self._stats.socket_writes += 1
            self._stats.socket_bytes += len(data)
            try:
                if not connection.write(data):
                    self._tell_behind(connection)
            except Exception:
                log.exception("write_failed connection=%s", connection.id)

    def lay(self, members: Iterable[Connection], data: bytes) -> None:
        """Add to outboxes; what was the same bytes for many stays so, however much it is."""
        before = after = b""
        for connection in members:
            if not connection.outbox:
                connection.outbox = data
                self._outgoing.append(connection)
                continue
            if connection.outbox is not before:
                before = connection.outbox
                after = before + data
            connection.outbox = after
