"""A cluster's connections for threads: those of :class:`blocking.Connections` for each primary that is needed."""

from __future__ import annotations

import time

from publisher.contract.calls import Reply
from publisher.errors import Unavailable
from publisher.transport import blocking
from publisher.transport.cluster import MAP_SECONDS, QUESTION, Cluster, Map, Slots
from publisher.transport.contact import Contact
from publisher.transport.flows import (
    Flow,
    Owners,
    Pause,
    RoundTrip,
    SideBySide,
    Step,
    T,
    driven,
    round_trips,
)
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host
from publisher.transport.routing import Hop, host_of, owners, route


class BlockingCluster:
    """Takes the steps of flows. For threads, and processes forked from them.

    Args:
        timeout: seconds to wait for a connection where there may be no more.
    """

    def __init__(self, cluster: Cluster, timeout: float) -> None:
        self._cluster = cluster
        self._timeout = timeout
        self._map = Map(cluster, time.monotonic)
        self._servers: dict[Host, blocking.Connections] = {}

    def run(self, flow: Flow[T]) -> T:
        """Take the steps of ``flow``, and return its result."""
        return driven(flow, self._take)

    def _take(self, step: Step) -> list[Reply]:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return []
        if self._map.stale:
            self._look()
        if isinstance(step, RoundTrip):
            return _Exchange(self, step).end()
        if isinstance(step, Owners):
            return owners(self._map, step.keys)
        return self._side_by_side(step)

    def _side_by_side(self, step: SideBySide) -> list[Reply]:
        """Write to all servers before any of them is waited for."""
        exchanges: list[_Exchange | Unavailable] = []
        for each in step.round_trips:
            try:
                exchanges.append(_Exchange(self, each))
            except Unavailable as error:
                exchanges.append(error)
        outcomes: list[list[Reply] | Unavailable] = []
        for exchange in exchanges:
            try:
                outcomes.append(exchange if isinstance(exchange, Unavailable) else exchange.end())
            except Unavailable as error:
                outcomes.append(error)
        return outcomes

    @property
    def map(self) -> Map:
        """What is known of the cluster."""
        return self._map

    def at(self, host: Host) -> blocking.Connections:
        """The connections to one of its servers."""
        connections = self._servers.get(host)
        if connections is None:
            server = OneServer(self._cluster.at(host))
            made = blocking.Connections(server, self._timeout, Contact(lambda: server.address))
            connections = self._servers.setdefault(host, made)
        return connections

    def _look(self) -> None:
        driven(self._map.look(), self._ask)
        for host in list(self._servers):
            if host not in self._map.primaries and (former := self._servers.pop(host, None)):
                former.close()

    def _ask(self, host: Host) -> Slots:
        server = OneServer(self._cluster.at(host).within(MAP_SECONDS))
        connections = blocking.Connections(server, MAP_SECONDS)
        try:
            replies = connections.run(round_trips(QUESTION))
        finally:
            connections.close()
        return self._cluster.read(replies, host)

    def close(self) -> None:
        """Close those that nobody uses now."""
        for connections in list(self._servers.values()):
            connections.close()


class _Exchange:
    """A round trip that has been written to the server where it begins.

    Raises:
        Unavailable: nobody has the slot, or the server could not be reached.
    """

    def __init__(self, cluster: BlockingCluster, step: RoundTrip) -> None:
        self._cluster = cluster
        self._step = step
        self._host = host_of(cluster.map, step)
        try:
            self._begun: blocking.Begun | None = blocking.begin(cluster.at(self._host), step)
        except Unavailable:
            cluster.map.doubt(self._host)
            raise

    def end(self) -> list[Reply]:
        """The replies, those of other servers that it was led to among them."""
        return driven(route(self._cluster.map, self._step, self._host), self._take)

    def _take(self, hop: Hop) -> list[Reply]:
        connections = self._cluster.at(hop.host)
        begun, self._begun = self._begun, None
        return blocking.end(connections, hop.step, begun or blocking.begin(connections, hop.step))
