"""What a node does now and then for all its connections: pings, expired tokens, and the drain at its end.

Finding out who is gone: unanswered pings, and tokens that have run out.

One sweep for the whole node; no timer and no task per socket.

Leaving without hurting anybody: first the balancer is told, then connections are closed one after
the other, not all at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing, frames, protocol
from gateway.core.protocol import ErrorCode
from gateway.core.timing import Expiries, Liveness
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock
from gateway.node.stats import Stats

log = logging.getLogger(__name__)

_PING: Final = frames.ping(b"h")


class Heartbeats:
    """Watches over connections.

    Args:
        wall_clock: seconds since 1970, for the tokens' expiry.
        random: a number from 0 to 1, to spread the pings.
    """

    def __init__(
        self,
        hub: Hub,
        confirmation: Confirmation,
        stats: Stats,
        clock: Clock,
        wall_clock: Clock,
        random: Callable[[], float],
        ping_interval: float,
        pong_timeout: float,
        confirm_interval: float,
    ) -> None:
        self._hub = hub
        self._confirmation = confirmation
        self._stats = stats
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._liveness: Liveness[str] = Liveness(ping_interval, pong_timeout, clock())
        self._pause = min(self._liveness.tick, confirm_interval / 4, pong_timeout / 4)
        self._expiries: Expiries[Connection] = Expiries(wall_clock())

    def watch(self, connection: Connection) -> None:
        """Ping a connection from now on, and close it when its token has run out."""
        self._liveness.add(connection.id, self._clock(), self._random())
        self.expect_expiry(connection)

    def expect_expiry(self, connection: Connection) -> None:
        """Take note of the connection's token."""
        if (expires_at := connection.identity.expires_at) is not None:
            self._expiries.expect(connection, expires_at)
        else:
            self._expiries.forget(connection)

    def heard(self, connection: Connection) -> None:
        """A pong came."""
        self._liveness.heard(connection.id, self._clock())

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._liveness.remove(connection.id)
        self._expiries.forget(connection)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            due_at = self._clock() + self._pause
            await asyncio.sleep(self._pause)
            self._stats.event_loop_lag = max(0.0, self._clock() - due_at)
            self.sweep()

    def sweep(self) -> None:
        """Do what is due now."""
        due = self._liveness.due(self._clock())
        connections = self._hub.connections
        for connection in filter(None, map(connections.get, due.expired)):
            log.info("pong_timeout connection=%s user=%r", connection.id, connection.user)
            self._hub.close(connection, closing.PONG_TIMEOUT)
        for connection in filter(None, map(connections.get, due.ping)):
            self._hub.send(connection, _PING)
        self._confirmation.tick(self._hub.send_all)
        for connection in self._expiries.due(self._wall_clock()):
            log.info("token_expired connection=%s user=%r", connection.id, connection.user)
            error = protocol.error(
                ErrorCode.TOKEN_EXPIRED, "Token expired", detail="connect again with a new token"
            )
            self._hub.close(connection, closing.TOKEN_EXPIRED, error)


log = logging.getLogger(__name__)

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
