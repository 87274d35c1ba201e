"""A cluster's connections for one event loop: those of :class:`LoopConnections` for each primary that is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from publisher.contract.calls import Reply
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.cluster import MAP_SECONDS, QUESTION, Cluster, Map, Slots
from publisher.transport.flows import Owners, Pause, RoundTrip, SideBySide, Step, driven_async
from publisher.transport.gathering import Gathering
from publisher.transport.loops import LoopConnections, run
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host
from publisher.transport.routing import Hop, host_of, owners, route

_CLOSED: Final = Unavailable("the connections to Redis were closed here", maybe_sent=False)


class LoopCluster:
    """Takes the steps of flows. The connections end with the loop's tasks, or with :meth:`aclose`.

    Args:
        timeout: seconds a round trip may take.
    """

    def __init__(self, cluster: Cluster, timeout: float, keys: Keys) -> None:
        self._keys = keys
        self._cluster = cluster
        self._timeout = timeout
        self._map = Map(cluster, asyncio.get_running_loop().time, self._leave)
        self._servers: dict[Host, LoopConnections] = {}
        # Those to servers that own nothing any more, until they are closed.
        self._left: set[LoopConnections] = set()
        self._gatherings: dict[Host | None, Gathering] = {}
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def gathering_of(self, channel: str) -> Gathering:
        """Those that wait for the same primary wait together: none waits for another that is down."""
        # The channel's own slot may be another one than that of its keys: an id may have braces.
        (host,) = owners(self._map, self._keys.of_channel(channel)[:1])
        gathering = self._gatherings.get(host)
        if gathering is None:
            gathering = self._gatherings[host] = Gathering(lambda flow: run(flow, self))
        return gathering

    async def take(self, step: Step) -> list[Reply]:
        """Take a step of a flow; returns the replies to it."""
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return []
        await self._know()
        if isinstance(step, RoundTrip):
            return await self._round_trip(step)
        if isinstance(step, Owners):
            return owners(self._map, step.keys)
        return await self._side_by_side(step)

    async def _side_by_side(self, step: SideBySide) -> list[Reply]:
        outcomes = await asyncio.gather(
            *map(self._round_trip, step.round_trips), return_exceptions=True
        )
        for each in outcomes:
            if isinstance(each, BaseException) and not isinstance(each, Unavailable):
                raise each
        return list(outcomes)

    async def _round_trip(self, step: RoundTrip) -> list[Reply]:
        return await driven_async(route(self._map, step, host_of(self._map, step)), self._take_hop)

    async def _take_hop(self, hop: Hop) -> list[Reply]:
        return await self._at(hop.host).of_primary(hop.step)

    def _at(self, host: Host) -> LoopConnections:
        connections = self._servers.get(host)
        if connections is None:
            server = OneServer(self._cluster.at(host))
            connections = self._servers[host] = LoopConnections(lambda _: server, self._timeout)
        return connections

    async def _know(self) -> None:
        """Have a map; one that is not sure to be the newest is asked for meanwhile."""
        if self._looking is None and self._map.stale:
            self._looking = self._spawn(self._look(), "cluster map")
        looking = self._looking
        if self._map.slots is None and looking is not None:
            await asyncio.wait([looking])
            if looking.cancelled():
                raise _CLOSED.told(maybe_sent=False)
            if (error := looking.exception()) is not None:
                # Each of those who wait raises one of its own.
                raise error.told(maybe_sent=False) if isinstance(error, Unavailable) else error

    async def _look(self) -> None:
        try:
            await driven_async(self._map.look(), self._ask)
            self._leave()
        finally:
            self._looking = None

    async def _ask(self, host: Host) -> Slots:
        try:
            async with asyncio.timeout(MAP_SECONDS):
                replies = await self._at(host).round_trip(RoundTrip(QUESTION))
        except TimeoutError:
            raise Unavailable("no answer in time", maybe_sent=False) from None
        return self._cluster.read(replies, host)

    def _leave(self) -> None:
        """Close the connections to servers that own nothing.

        What is under way at one that has failed is tried again elsewhere; of another one it has its answer first.
        """
        for host in self._servers.keys() - set(self._map.primaries):
            left = self._servers.pop(host)
            self._left.add(left)
            seconds = 0.0 if self._map.is_doubted(host) else self._timeout
            self._spawn(self._close(left, seconds), "leave a server")
            self._gatherings.pop(host, None)

    async def _close(self, left: LoopConnections, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await left.aclose()
        self._left.discard(left)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it raises it

    async def aclose(self) -> None:
        """Close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connections in (*self._servers.values(), *self._left):
            await connections.aclose()
        self._servers.clear()
        self._left.clear()
