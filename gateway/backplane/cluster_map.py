"""A node's view of a Redis Cluster: which primary has what. It asks, and tells when that has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from publisher.errors import Unavailable
from publisher.transport.cluster import MAP_SECONDS, QUESTION, Cluster, Map, Slots
from publisher.transport.flows import driven_async
from publisher.transport.pipeline import Pipeline
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
"""So often it is looked whether the map is to be asked for."""


class ClusterMap:
    """The map of a cluster for one event loop.

    Args:
        changed: told soon after slots have got other owners, once for all that change together.
    """

    def __init__(self, cluster: Cluster, changed: Callable[[], None]) -> None:
        self.cluster = cluster
        self.known = Map(cluster, asyncio.get_running_loop().time, self._note_change)
        self._changed = changed
        self._telling = False
        self._asked: dict[Host, Pipeline] = {}

    @property
    def primaries(self) -> tuple[Host, ...]:
        """The servers that own slots."""
        return self.known.primaries

    def any_primary(self) -> Host:
        """A primary for what any of them will do.

        Raises:
            Unavailable: none is known.
        """
        return self.known.owner(None)

    def _note_change(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._changed()

    async def run(self, silent: Callable[[], Iterable[Host]]) -> None:
        """Ask whenever the map is in doubt, and now and then, until cancelled.

        Args:
            silent: the primaries to which there is no connection: another server may have taken over.
        """
        while True:
            for host in silent():
                self.known.doubt(host)
            if self.known.stale:
                await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        first = self.known.slots is None
        try:
            await self.learn()
        except Unavailable as error:
            # The node's lease tells of a Redis that is waited for.
            log.debug("cluster_unknown reason=%s", error.reason)
        else:
            if first:
                self._note_change()

    async def learn(self) -> None:
        """Ask for the map.

        Raises:
            Unavailable: nobody has it.
        """
        await driven_async(self.known.look(), self._ask)

    async def _ask(self, host: Host) -> Slots:
        pipeline = self._asked.get(host)
        if pipeline is None:
            server = OneServer(self.cluster.at(host))
            pipeline = self._asked[host] = Pipeline(server, None, MAP_SECONDS)
        (reply,) = await pipeline.round_trip([QUESTION.cached()])
        return self.cluster.read(reply, host)

    async def aclose(self) -> None:
        """Close the connections on which was asked."""
        for pipeline in self._asked.values():
            with contextlib.suppress(Unavailable):
                await pipeline.aclose()
