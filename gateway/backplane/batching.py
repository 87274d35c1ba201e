"""Redis calls made in the same turn of the event loop, or in a few busy ones, leave in one write.

When ten thousand clients come back after a deploy, their handshakes cost a few hundred round trips,
not tens of thousands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Final

from redis.asyncio import ConnectionPool

from gateway.backplane.commands import Commands, Request
from gateway.backplane.reader import opened
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks
from publisher.exchange import Call, Reply
from publisher.failures import FAILURES, unavailable

log = logging.getLogger(__name__)

_ERRORS_TOLD: Final = 100
_GATHERING_SECONDS: Final = 0.005
"""So long calls may wait for others while each turn of the event loop brings more. A write and the
reading of what it brings back cost as much as ten calls: in a storm this saves a third of all CPU."""
_OTHER_CONNECTION: Final = frozenset({"READONLY", "NOAUTH"})
"""Codes of errors that another connection may mend: a primary that has become a replica, a password
that was changed."""


def has_failed(answer: asyncio.Future[Reply]) -> bool:
    """Whether a call that was begun has come to nothing.

    It is looked at by that, so that asyncio does not complain of an error that nobody has seen.
    """
    return answer.cancelled() or answer.exception() is not None


class Batcher:
    """Runs single calls over a connection of its own, opened when there is something to say.

    Args:
        timeout: seconds a call may take, and the opening of a connection.
        troubled: told when the connection fails.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        stats: Stats,
        timeout: float,
        troubled: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._tasks = Tasks()
        self._stats = stats
        self._timeout = timeout
        self._troubled = troubled
        self._waiting: deque[Request] = deque()
        self._told: set[str] = set()
        self._commands: Commands | None = None
        self._opening = False
        self._scheduled = False
        self._gathered = 0
        self._closed = False
        # One for all calls, for the deadline of the oldest: most have long been answered by then.
        self._timer: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> int:
        """How many calls were written and have not been answered."""
        return len(self._commands.under_way) if self._commands else 0

    # -- calls --------------------------------------------------------------------------------

    async def call(self, call: Call) -> Reply:
        """Run one command and return its reply.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        return await self.begin(call)

    def begin(self, call: Call) -> asyncio.Future[Reply]:
        """The same for who makes many calls at once: without a task for each."""
        loop = asyncio.get_running_loop()
        request = Request(call, loop.create_future(), loop.time() + self._timeout)
        if self._closed:
            request.fail("the node has stopped", maybe_sent=False)
            return request.answer
        self._waiting.append(request)
        if self._timer is None:
            self._timer = loop.call_at(request.deadline, self._sweep)
        self._schedule()
        return request.answer

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        if self._gathers():
            asyncio.get_running_loop().call_soon(self._send)
            return
        self._gathered = 0
        self._scheduled = False
        commands = self._commands
        if commands is None:
            if self._waiting and not self._opening and not self._closed:
                self._opening = True
                self._tasks.spawn(self._serve(), "redis commands")
        elif not commands.transport.is_closing():
            commands.send(self._waiting)
        # What would be written to a connection that closes waits until that is gone.

    def _gathers(self) -> bool:
        """Whether to look once more, a turn later, before writing: this turn has brought more."""
        gathered, self._gathered = self._gathered, len(self._waiting)
        if self._commands is None or self._gathered <= gathered:
            return False
        asked_at = self._waiting[0].deadline - self._timeout
        return asyncio.get_running_loop().time() < asked_at + _GATHERING_SECONDS

    def _refused(self, commands: Commands, request: Request, error: str) -> None:
        code = error.partition(" ")[0]
        if code == "NOSCRIPT" and not request.whole:
            request.make_whole()
            self._waiting.appendleft(request)
            return
        # Of a command it does not know, Redis repeats the arguments.
        reason = error.partition(", with args beginning with")[0]
        self._stats.redis_errors += 1
        self._tell(reason)
        request.fail(reason, maybe_sent=False)
        if code in _OTHER_CONNECTION:
            self._give_up(commands)

    def _tell(self, error: str) -> None:
        """Log an error of Redis's the first time it is seen: it may come thousands of times."""
        if error not in self._told and len(self._told) < _ERRORS_TOLD:
            self._told.add(error)
            log.error("redis_error reason=%s", error)

    # -- deadlines ----------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Fail what is overdue, and with it the connection that does not answer."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        commands = self._commands
        reason = "too many calls are waiting" if commands else "no connection in time"
        if commands and any(request.deadline <= now for request in commands.under_way):
            commands.fail("no answer in time")
            self._give_up(commands)
            self._trouble()
        # A crowd before a Redis that hangs is not answered one time-out after the other.
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().fail(reason, maybe_sent=False)
        under_way = self._commands.under_way if self._commands else ()
        if self._waiting or under_way:
            oldest = min(request.deadline for request in chain(self._waiting, under_way))
            self._timer = loop.call_at(oldest, self._sweep)

    # -- the connection -----------------------------------------------------------------------

    async def _serve(self) -> None:
        """Open a connection, send what waits for it, and stay until it is lost."""
        commands: Commands | None = None
        try:
            async with opened(self._pool, self._timeout) as transport:
                self._opening = False
                self._commands = commands = Commands(transport, self._refused, self._schedule)
                self._schedule()
                await commands.lost
        except FAILURES as error:
            # What waits would wait for the next refusal, and for the one after that.
            self._trouble()
            self._fail_waiting(unavailable(error, maybe_sent=False).reason)
        finally:
            if commands is None:
                self._opening = False
            else:
                self._lost(commands)

    def _lost(self, commands: Commands) -> None:
        if commands is self._commands:
            self._commands = None
        if commands.under_way:
            commands.fail("connection lost")
            self._trouble()
        self._schedule()

    def _give_up(self, commands: Commands) -> None:
        """Open another connection for what comes next."""
        if commands is self._commands:
            self._commands = None
        commands.transport.abort()
        self._schedule()

    def doubt(self) -> None:
        """Give the connection up if nothing is under way on it.

        After a failover, or over a way that is no more, it looks healthy, and would cost its next user a
        time-out: also when Redis has long been answering others.
        """
        if self._commands is not None and not self._commands.under_way:
            self._give_up(self._commands)

    def _trouble(self) -> None:
        self._stats.redis_errors += 1
        self._troubled()

    def _fail_waiting(self, reason: str) -> None:
        while self._waiting:
            self._waiting.popleft().fail(reason, maybe_sent=False)

    async def aclose(self) -> None:
        """Close the connection; calls that are not answered fail, also those made from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.aclose()
        self._fail_waiting("the node has stopped")
