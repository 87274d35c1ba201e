"""What a node does for all its connections: one sweep now and then, pings, and the drain at its end.

One sweep serves the whole node: no timer and no task per socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing, frames
from gateway.core.timing import Liveness
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock
from gateway.node.stats import Stats

log = logging.getLogger(__name__)

_PING: Final = frames.ping(b"h")


class Sweep:
    """Calls everybody who has something to do at certain times.

    Args:
        pause: seconds between two sweeps.
        ticks: what is called in each; each does what is due by then.
    """

    def __init__(
        self, stats: Stats, clock: Clock, pause: float, ticks: tuple[Callable[[], None], ...]
    ) -> None:
        self._stats = stats
        self._clock = clock
        self._pause = pause
        self._ticks = ticks

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            due_at = self._clock() + self._pause
            await asyncio.sleep(self._pause)
            self._stats.event_loop_lag = max(0.0, self._clock() - due_at)
            for tick in self._ticks:
                try:
                    tick()
                except Exception:
                    # A defect in one must not keep the others from what is due.
                    log.exception("tick_failed tick=%r", tick)


class Heartbeats:
    """Pings connections, and closes those that do not answer in time.

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
        self._liveness: Liveness[str] = Liveness(interval, timeout, clock())
        self.pause = min(self._liveness.tick, timeout / 4)
        """Seconds that may pass between two ticks."""

    def watch(self, connection: Connection) -> None:
        """Ping a connection from now on."""
        self._liveness.add(connection.id, self._clock(), self._random())

    def heard(self, connection: Connection) -> None:
        """A connection has given a sign of life."""
        self._liveness.heard(connection.id, self._clock())

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._liveness.remove(connection.id)

    def tick(self) -> None:
        """Send the pings that are due, and close whoever has not answered an earlier one."""
        due = self._liveness.due(self._clock())
        connections = self._hub.connections
        for connection in filter(None, map(connections.get, due.expired)):
            log.info("pong_timeout connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.PONG_TIMEOUT)
        for connection in filter(None, map(connections.get, due.ping)):
            self._hub.send(connection, _PING)


_SLICE_SECONDS: Final = 0.05
_UNHURRIED_PER_SECOND: Final = 200
"""With few connections there is no herd to fear, and no reason to take the whole time."""


class Drain:
    """The end of a node's life.

    ``leaving``: the node is not ready, so that the balancer sends nobody new; who comes all the same is
    let in, because the balancer takes a moment to notice. ``closed``: nobody is let in.

    Args:
        delay: seconds for the balancer to notice.
        duration: seconds over which connections are closed, at most.
        farewell: seconds for the last of them to answer.
    """

    def __init__(
        self, hub: Hub, clock: Clock, delay: float, duration: float, farewell: float
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._delay = delay
        self._duration = duration
        self._farewell = farewell
        self.leaving = False
        self.closed = False

    async def run(self) -> None:
        """Wait for the balancer, close all connections with 1001, and wait until they are gone."""
        self.leaving = True
        log.info("drain_started connections=%d", len(self._hub.connections))
        await asyncio.sleep(self._delay)
        self.closed = True
        await self._close_all()
        deadline = self._clock() + self._farewell
        while self._hub.connections and self._clock() < deadline:  # noqa: ASYNC110 - each leaves by itself
            await asyncio.sleep(_SLICE_SECONDS)

    async def _close_all(self) -> None:
        waiting = list(self._hub.connections.values())
        duration = min(self._duration, len(waiting) / _UNHURRIED_PER_SECOND)
        slices = max(1, round(duration / _SLICE_SECONDS))
        for number in range(slices):
            for connection in waiting[number::slices]:
                self._hub.close(connection, closing.DRAINING)
            if number + 1 < slices:
                await asyncio.sleep(_SLICE_SECONDS)
