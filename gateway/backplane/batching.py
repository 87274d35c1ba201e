"""Redis round trips made in the same turn of the event loop share one.

When ten thousand clients come back after a deploy, their handshakes cost a few hundred round trips,
not tens of thousands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from redis.exceptions import ResponseError

from gateway.backplane.pool import Pool
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from publisher.errors import Unavailable
from publisher.exchange import Call, Reply, exchange_async

log = logging.getLogger(__name__)

_MAX_CALLS: Final = 500
_MAX_ROUND_TRIPS: Final = 2
"""Under way at once. What comes meanwhile gathers, so that load makes the batches larger."""
_ERRORS_TOLD: Final = 100


class Batcher:
    """Runs single calls, many to a round trip.

    Args:
        timeout: seconds a round trip may take.
    """

    def __init__(self, pool: Pool, tasks: Tasks, stats: Stats, timeout: float) -> None:
        self._pool = pool
        self._tasks = tasks
        self._stats = stats
        self._timeout = timeout
        self._waiting: deque[tuple[float, Call, asyncio.Future[Reply]]] = deque()
        self._told: set[str] = set()
        self._under_way = 0
        self._scheduled = False

    async def call(self, call: Call) -> Reply:
        """Run one command and return its reply.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        return await self.begin(call)

    def begin(self, call: Call) -> asyncio.Future[Reply]:
        """The same for who makes many calls at once: without a task for each."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((loop.time() + self._timeout, call, answer))
        self._schedule(loop)
        return answer

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._scheduled and self._under_way < _MAX_ROUND_TRIPS:
            self._scheduled = True
            loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        now = loop.time()
        batch: list[tuple[Call, asyncio.Future[Reply]]] = []
        while self._waiting and len(batch) < _MAX_CALLS:
            deadline, call, answer = self._waiting.popleft()
            if deadline <= now:
                # A crowd before a Redis that hangs is not answered one time-out after the other.
                _fail(answer, Unavailable("too many calls are waiting", maybe_sent=False))
            elif not answer.done():
                batch.append((call, answer))
        if batch:
            self._under_way += 1
            self._tasks.spawn(self._run(batch), "redis round trip")
        self._schedule(loop)

    async def _run(self, batch: list[tuple[Call, asyncio.Future[Reply]]]) -> None:
        try:
            replies = await exchange_async(self._pool, [call for call, _ in batch], self._timeout)
        except Exception as error:
            self._stats.redis_errors += 1
            if not isinstance(error, Unavailable):
                log.exception("redis_round_trip_failed")
            for _, answer in batch:
                # An exception object is raised once; each waiter gets its own.
                _fail(answer, _unavailable(error))
            await self._pool.drop_idle()
        except BaseException:
            for _, answer in batch:
                answer.cancel()
            raise
        else:
            for (_, answer), reply in zip(batch, replies, strict=True):
                if isinstance(reply, ResponseError):
                    self._stats.redis_errors += 1
                    self._tell(str(reply))
                    _fail(answer, Unavailable(str(reply), maybe_sent=False))
                elif not answer.done():
                    answer.set_result(reply)
        finally:
            self._under_way -= 1
            self._schedule(asyncio.get_running_loop())

    def _tell(self, error: str) -> None:
        """Log an error of Redis's the first time it is seen: it may come thousands of times."""
        if error not in self._told and len(self._told) < _ERRORS_TOLD:
            self._told.add(error)
            log.error("redis_error reason=%s", error)


def _fail(answer: asyncio.Future[Reply], error: Unavailable) -> None:
    if not answer.done():
        answer.set_exception(error)


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return Unavailable(error.reason, maybe_sent=error.maybe_sent)
    return Unavailable(type(error).__name__, maybe_sent=True)
