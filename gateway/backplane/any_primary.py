"""The primary of a cluster over which a node hears commands to all nodes. Any will do: they tell each other."""

from __future__ import annotations

from typing import Any

from gateway.backplane.cluster_calls import ClusterCalls
from gateway.backplane.cluster_map import ClusterMap
from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host, shown


class AnyPrimary:
    """Leads connections to one of the primaries. Implements ``Server``.

    ``host`` is where the last one was led.
    """

    def __init__(self, map_: ClusterMap) -> None:
        self._map = map_
        self.host: Host | None = None

    @property
    def address(self) -> str:
        """The same, as a person reads it; the servers of the URL as long as none was."""
        return shown(self.host) if self.host else self._map.cluster.address

    def __call__(self) -> Any:
        """A new connection, which :meth:`open` leads somewhere."""
        return self._map.cluster.servers()

    async def open(self, connection: Any) -> None:
        """Open a connection.

        Raises:
            RedisError, OSError: it could not be opened.
            Unavailable: no primary is known.
        """
        self.host = self._map.any_primary()
        try:
            await OneServer(self._map.cluster.servers).open(self._led(connection, self.host))
        except BaseException:  # one that takes too long is cancelled
            self.avoid()
            raise

    def _led(self, connection: Any, host: Host) -> Any:
        connection.host, connection.port = host
        return connection

    def avoid(self) -> None:
        """Lead the next connection elsewhere, if there is another primary that answers."""
        self._map.known.doubt(self.host)


class ToOneServer:
    """Calls to the server on which commands to all nodes are listened to."""

    def __init__(self, calls: ClusterCalls, at: AnyPrimary) -> None:
        self._calls = calls
        self._at = at

    async def call(self, call: Call) -> Reply:
        """As ``Pipeline.call``."""
        if self._at.host is None:
            raise Unavailable("no primary is known", maybe_sent=False)
        return await self._calls.at(self._at.host).call(call)
