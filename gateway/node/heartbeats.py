"""Pings connections, and closes those that do not answer in time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.core import closing
from gateway.core.timing import Liveness
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock

log = logging.getLogger(__name__)

_STREAM_INTERVAL: Final = 15.0
"""Seconds between two comments on an event stream, which show whether the client is there, and keep its line open in proxies."""

_PING: Final = b"h"


class Ahead:
    """What a client has to take before it meets a ping that is sent now. Until then it cannot answer."""

    __slots__ = ("_end", "_taken")

    def __init__(self, connection: Connection) -> None:
        socket = connection.socket
        self._taken = socket.taken
        self._end = self._taken + socket.untaken + len(connection.outbox)

    def moved(self, connection: Connection) -> bool:
        """Whether the client has taken some of it since the last look."""
        before = self._taken
        if before < self._end:
            self._taken = connection.socket.taken
        return self._taken > before


class Question:
    """A ping to a client of which any sign of life is the answer.

    Args:
        heard: when the client's last pong came.
    """

    __slots__ = ("_ahead", "_arrived", "_connection", "_heard", "_pong")

    def __init__(self, connection: Connection, heard: Callable[[], float | None]) -> None:
        self._connection = connection
        self._heard = heard
        self._pong = heard()
        self._arrived = connection.socket.arrived
        self._ahead = Ahead(connection)

    @property
    def answered(self) -> bool:
        """Whether the client has sent anything since, or taken some of what was written before the ping."""
        return (
            self._connection.socket.there
            or self._connection.socket.arrived > self._arrived
            or self._heard() != self._pong
            or self._ahead.moved(self._connection)
        )


class Heartbeats:
    """Pings connections, and closes those that do not answer in time.

    The time for a pong begins anew while the client takes what was written before the ping, or sends something: on a
    slow line both last longer, and the pong is behind them. What it takes behind the ping proves nothing, for the
    system at the other end takes it by itself.

    The pong of a client that is not read from, because too much waits for it, cannot be heard: such a client is given up
    when it takes nothing (``stalls.py``).

    Event streams are sent comments instead, and none answers these: such a client is there while it takes them.

    Args:
        random: a number from 0 to 1, to spread the pings.
        interval: seconds between two pings of a connection.
        timeout: seconds that a pong may take.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        random: Callable[[], float],
        interval: float,
        timeout: float,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._random = random
        self._timeout = timeout
        self._pinged: Liveness[str] = Liveness(interval, timeout, clock())
        self._commented: Liveness[str] = Liveness(min(interval, _STREAM_INTERVAL), timeout, clock())
        # Of those that have not answered since; few have anything ahead of a ping.
        self._ahead: dict[str, Ahead] = {}
        self.pause = min(self._commented.tick, timeout / 4)
        """Seconds that may pass between two ticks."""
        self.longest_silence = interval + timeout
        """Seconds after which a client whose line stands still is closed: it is pinged once meanwhile."""

    def watch(self, connection: Connection) -> None:
        """Ping a connection from now on."""
        self._of(connection).add(connection.id, self._clock(), self._random())

    def _of(self, connection: Connection) -> Liveness[str]:
        return self._pinged if connection.socket.encoding.asks else self._commented

    def heard(self, connection: Connection) -> None:
        """A connection has given a sign of life."""
        self._of(connection).heard(connection.id, self._clock())
        self._ahead.pop(connection.id, None)

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._of(connection).remove(connection.id)
        self._ahead.pop(connection.id, None)

    def ask(self, connection: Connection) -> Question:
        """Ping a connection now, and not in the place of any other ping."""
        question = Question(connection, partial(self._of(connection).last_heard, connection.id))
        self._hub.ping(connection, _PING)
        return question

    def tick(self) -> None:
        """Send the pings that are due, and close whoever has not answered an earlier one."""
        connections = self._hub.connections
        for liveness in (self._pinged, self._commented):
            due = liveness.due(self._clock())
            for connection in filter(None, map(connections.get, dict.fromkeys(due.expired))):
                self._judge(connection)
            for connection in filter(None, map(connections.get, due.ping)):
                self._ping(connection)

    def _judge(self, connection: Connection) -> None:
        ahead = self._ahead.get(connection.id)
        takes = ahead is not None and ahead.moved(connection)
        if connection.socket.there:
            self.heard(connection)
        elif takes or connection.socket.unheard or connection.socket.quiet < self._timeout:
            self._of(connection).prolong(connection.id, self._clock())
        else:
            log.info("pong_timeout connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.PONG_TIMEOUT)

    def _ping(self, connection: Connection) -> None:
        # Behind an earlier ping that is not answered yet there is nothing to learn.
        if connection.id not in self._ahead and (connection.outbox or connection.socket.untaken):
            self._ahead[connection.id] = Ahead(connection)
        self._hub.ping(connection, _PING)
