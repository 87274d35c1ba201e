"""Calls to the primaries of a Redis Cluster: each goes to the one that has its key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from redis.exceptions import ResponseError

from gateway.backplane.cluster_map import ClusterMap
from gateway.node.stats import Stats
from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.connection import Single
from publisher.transport.failures import code
from publisher.transport.pipeline import Pipeline
from publisher.transport.primary import OneServer
from publisher.transport.redirects import ASKING, Redirect, leads_nowhere
from publisher.transport.redis_py import Host

_PAUSE_SECONDS: Final = 0.05
"""Before a call is sent again that nobody could carry out: its keys are on their way."""
_AT_ONCE: Final = 3
"""So often a call follows its slot without a pause."""
_MOVING: Final = Unavailable("its keys are being moved", maybe_sent=False)
_CLOSED: Final = Unavailable("the connections to Redis were closed here", maybe_sent=False)


class ClusterCalls:
    """Runs calls over one pipeline for each primary, and follows slots that move.

    Args:
        seconds: what a call may take.
        troubled: told of a server to which a connection has failed.
    """

    def __init__(
        self, map_: ClusterMap, stats: Stats, seconds: float, troubled: Callable[[Host], None]
    ) -> None:
        self._map = map_
        self._stats = stats
        self._seconds = seconds
        self._troubled = troubled
        self._pipelines: dict[Host, Pipeline] = {}
        # Those to servers that own nothing any more, by the tasks that close them.
        self._closing: dict[asyncio.Task[None], Pipeline] = {}
        # How often each call that is under way was sent elsewhere.
        self._redirects: dict[Single, int] = {}

    async def call(self, call: Call) -> Reply:
        """As ``Pipeline.call``."""
        return await self.begin(call)

    def begin(self, call: Call) -> asyncio.Future[Reply]:
        """As ``Pipeline.begin``."""
        try:
            host = self._map.known.owner(call.key)
        except Unavailable as error:
            return self._begin_later(call, error)
        return self.at(host).begin(call)

    def _begin_later(self, call: Call, error: Unavailable) -> asyncio.Future[Reply]:
        """Fail; but a call that comes while the map is asked for the first time waits for that."""
        loop = asyncio.get_running_loop()
        request = Single(call, loop.create_future(), self._seconds)
        if self._map.asked.done():
            request.fail(error, maybe_sent=False)
            return request.answer
        late = loop.call_later(self._seconds, partial(request.fail, error, maybe_sent=False))

        def begin(_asked: object) -> None:
            late.cancel()
            self._send_again(request)

        self._map.asked.add_done_callback(begin)
        return request.answer

    def at(self, host: Host) -> Pipeline:
        """The pipeline to one server."""
        pipeline = self._pipelines.get(host)
        if pipeline is None:
            pipeline = self._pipelines[host] = Pipeline(
                OneServer(self._map.cluster.at(host)),
                self._stats,
                self._seconds,
                partial(self._trouble, host),
                redirected=partial(self._redirect, host),
            )
        return pipeline

    def _trouble(self, host: Host) -> None:
        self._map.known.doubt(host)
        self._troubled(host)

    # -- slots that move ----------------------------------------------------------------------

    def _redirect(self, host: Host, request: Single, error: ResponseError) -> bool:
        """Send a call where ``host`` says that its slot is; nothing of it has been carried out."""
        there = self._map.known.hear(error, host)
        if there is None and code(error) != "TRYAGAIN" and not leads_nowhere(error):
            return False
        loop = asyncio.get_running_loop()
        times = self._redirects.get(request, 0)
        if not times:
            request.answer.add_done_callback(lambda _answer: self._redirects.pop(request, None))
        self._redirects[request] = times + 1
        if there is None:
            loop.call_later(_PAUSE_SECONDS, self._send_again, request)
        elif times >= _AT_ONCE:
            loop.call_later(_PAUSE_SECONDS, self._lead, request, there)
        else:
            self._lead(request, there)
        return True

    def _lead(self, request: Single, there: Redirect) -> None:
        """Send a call where a server has led it."""
        if self._is_over(request):
            return
        if not there.asking:
            self.at(there.host).take_over(request)
            return
        # If the connection is lost between the two, the call comes back here and is led there once more.
        asking = Single(ASKING, asyncio.get_running_loop().create_future(), self._seconds)
        asking.deadline = request.deadline
        asking.answer.add_done_callback(_forget)
        self.at(there.host).take_over(asking, request)

    def _is_over(self, request: Single) -> bool:
        """Whether nobody waits for a call any more, which nobody has carried out."""
        if request.deadline <= asyncio.get_running_loop().time():
            request.fail(_MOVING, maybe_sent=False)
        return request.answer.done()

    def _send_again(self, request: Single) -> None:
        """Send a call where its slot is by now."""
        if self._is_over(request):
            return
        try:
            pipeline = self.at(self._map.known.owner(request.call.key))
        except Unavailable as error:
            request.fail(error, maybe_sent=False)
        else:
            pipeline.take_over(request)

    def follow(self) -> None:
        """Close the connections to servers that own nothing any more, once they have answered."""
        for host in self._pipelines.keys() - set(self._map.primaries):
            pipeline = self._pipelines.pop(host)
            # What is under way there has been sent: it is answered, or led on from there.
            task = asyncio.create_task(self._close(pipeline), name="close a connection")
            self._closing[task] = pipeline
            task.add_done_callback(self._closing.pop)

    async def _close(self, pipeline: Pipeline) -> None:
        await asyncio.sleep(self._seconds)
        await pipeline.aclose()

    # -- all of them --------------------------------------------------------------------------

    def drop_if_idle(self, host: Host) -> None:
        """As ``Pipeline.drop_if_idle``, for the connection to one server."""
        if (pipeline := self._pipelines.get(host)) is not None:
            pipeline.drop_if_idle()

    async def aclose(self) -> None:
        """Close all connections; calls that are not answered fail."""
        closing = dict(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
        for pipeline in (*closing.values(), *self._pipelines.values()):
            await pipeline.aclose()
        for request in list(self._redirects):
            request.fail(_CLOSED, maybe_sent=False)  # those that wait for their keys


def _forget(answer: asyncio.Future[Reply]) -> None:
    """What became of it is seen at the call behind it."""
    if not answer.cancelled():
        answer.exception()
