"""A node's view of a Redis Cluster: which primary has what. It asks, and tells when that has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from redis.exceptions import ResponseError

from publisher.errors import Unavailable
from publisher.transport.cluster import MAP_SECONDS, QUESTION, Cluster, Map, Slots
from publisher.transport.flows import driven_async
from publisher.transport.pipeline import Pipeline
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
"""So often it is looked whether the map is to be asked for."""
_LONGEST_SECONDS: Final = 1.0
"""While primaries stay silent it is asked for at least so often: a node is to be ready within three seconds of a promotion."""
_TOLD_SECONDS: Final = 0.02
"""Changes are told no more often: servers that lead to each other make one with each call."""


class ClusterMap:
    """The map of a cluster for one event loop. ``asked`` is done once it has been asked for, with or without success.

    Args:
        changed: told soon after slots have got other owners, once for all that change together, while :meth:`run` runs.
    """

    def __init__(self, cluster: Cluster, changed: Callable[[], None]) -> None:
        self.cluster = cluster
        clock = asyncio.get_running_loop().time
        self.known = Map(cluster, clock, self._note_change, _LONGEST_SECONDS)
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed = changed
        self._runs = False
        self._telling = False
        self._told_at = float("-inf")
        self._pipelines: dict[Host, Pipeline] = {}

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

    def refused(self, host: Host, error: ResponseError | None) -> None:
        """A server has given a pub/sub name away, or does not take it because of an error."""
        if error is None:
            self.known.doubt()
        else:
            self.known.hear(error, host)

    def _note_change(self) -> None:
        # What changes while nothing follows is told at the beginning of ``run``; after its end nobody is there.
        if self._runs and not self._telling:
            self._telling = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._told_at + _TOLD_SECONDS), self._tell)

    def _tell(self) -> None:
        self._telling = False
        if self._runs:
            self._told_at = asyncio.get_running_loop().time()
            self._changed()

    async def run(self, silent: Callable[[], Iterable[Host]]) -> None:
        """Ask whenever the map is in doubt, and now and then, until cancelled.

        Args:
            silent: the primaries that are not heard: another server may have taken over.
        """
        self._runs = True
        if self.known.slots is not None:
            self._note_change()
        try:
            while True:
                for host in silent():
                    self.known.doubt(host)
                if self.known.stale:
                    await self._look()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._runs = False

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
            await self._forget_others()

    async def _forget_others(self) -> None:
        """Close the connections to servers that are in the cluster no more."""
        slots = self.known.slots
        assert slots is not None
        servers = {*slots.primaries, *slots.replicas, *self.cluster.seeds}
        for host in self._pipelines.keys() - servers:
            await self._pipelines.pop(host).aclose()

    async def learn(self) -> None:
        """Ask for the map.

        Raises:
            Unavailable: nobody has it.
        """
        try:
            await driven_async(self.known.look(), self._ask)
        finally:
            self._end_of_asking()

    def _end_of_asking(self) -> None:
        if not self.asked.done():
            self.asked.set_result(None)

    async def _ask(self, host: Host) -> Slots:
        pipeline = self._pipelines.get(host)
        if pipeline is None:
            server = OneServer(self.cluster.at(host))
            pipeline = self._pipelines[host] = Pipeline(server, None, MAP_SECONDS)
        replies = await pipeline.round_trip([each.cached() for each in QUESTION])
        return self.cluster.read(replies, host)

    async def aclose(self) -> None:
        """Close the connections on which was asked."""
        self._end_of_asking()
        for pipeline in list(self._pipelines.values()):
            await pipeline.aclose()
