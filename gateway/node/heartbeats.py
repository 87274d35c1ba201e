"""Finding out who is gone: unanswered pings, and tokens that have run out.

One sweep for the whole node; no timer and no task per socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.core import closing, frames, protocol
from gateway.core.liveness import Expiries, Liveness
from gateway.core.protocol import ErrorCode
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
