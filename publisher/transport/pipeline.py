"""A pipelined connection to Redis: calls made in the same turn of the event loop leave in one write.

Replies answer the calls first in, first out, without a task or a timer for any of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol

from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Command, Reply
from publisher.errors import Unavailable
from publisher.transport.connection import (
    Batch,
    Commands,
    Request,
    RoundTrips,
    Server,
    Single,
    opened,
)
from publisher.transport.failures import (
    FAILURES,
    OTHER_CONNECTION,
    cause,
    code,
    meaning,
    unavailable,
)

log = logging.getLogger(__name__)

_ERRORS_TOLD: Final = 100
_LAST_LOOK_SECONDS: Final = 0.05
"""Before anything is overdue the event loop has so long to read. uvloop runs timers before it reads: after
it has stood still, the replies that came meanwhile would wait unread when the deadline is looked at."""
_GATHERING_SECONDS: Final = 0.005
"""So long calls may wait for others while each turn of the event loop brings more. A write and the
reading of what it brings back cost as much as ten calls: in a storm this saves a third of all CPU."""


class Counts(Protocol):
    """Where errors are counted, and where round trips are measured."""

    redis_errors: int

    @property
    def round_trips(self) -> RoundTrips | None: ...


class Calls(Protocol):
    """Runs calls: over one connection, or over that of the server that has the key of each."""

    async def call(self, call: Call) -> Reply: ...
    def begin(self, call: Call) -> asyncio.Future[Reply]: ...


@dataclass
class _Uncounted:
    redis_errors: int = 0
    round_trips: None = None


def has_failed(answer: asyncio.Future[Reply]) -> bool:
    """Whether a call that was begun has come to nothing.

    It is looked at by that, so that asyncio does not complain of an error that nobody has seen.
    """
    return answer.cancelled() or answer.exception() is not None


class Pipeline:
    """Runs calls over a connection of its own, opened when there is something to say. Belongs to one event loop.

    Args:
        server: where its connections lead (``primary.py``).
        stats: where errors are counted.
        timeout: seconds a call may take, and the opening of a connection.
        troubled: told when the connection fails.
        gathering: seconds for which calls wait while each turn of the event loop brings more.
        redirected: told of a call that Redis has answered with an error; returns whether it sees to the call.
    """

    def __init__(
        self,
        server: Server,
        stats: Counts | None,
        timeout: float,
        troubled: Callable[[], None] = lambda: None,
        gathering: float = _GATHERING_SECONDS,
        redirected: Callable[[Single, ResponseError], bool] | None = None,
    ) -> None:
        self._server = server
        self._stats: Counts = stats or _Uncounted()
        self._timeout = timeout
        self._troubled = troubled
        self._gathering = gathering
        self._redirected = redirected
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._told: set[str] = set()
        # The connection that is sent what comes next; and all that are open, the oldest first.
        self._commands: Commands | None = None
        self._open: list[Commands] = []
        self._opening = False
        self._scheduled = False
        self._gathered = 0
        self._closed = False
        # One for all calls, for the deadline of the oldest: most have long been answered by then.
        self._timer: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> int:
        """How many commands were written and have not been answered."""
        return len(self._commands.under_way) if self._commands else 0

    # -- calls --------------------------------------------------------------------------------

    async def call(self, call: Call) -> Reply:
        """Run one command and return its reply.

        Raises:
            Rejected: Redis answered with an error that trying again does not mend.
            Unavailable: Redis did not answer, or answered with an error that passes.
        """
        return await self.begin(call)

    def begin(self, call: Call) -> asyncio.Future[Reply]:
        """The same for who makes many calls at once: without a task for each."""
        loop = asyncio.get_running_loop()
        return self._enqueue(Single(call, loop.create_future(), self._timeout), loop)

    def take_over(self, *requests: Request) -> None:
        """Send calls here that another pipeline was given, one behind the other; their deadlines stay."""
        for request in requests:
            self._enqueue(request, asyncio.get_running_loop())

    def round_trip(
        self, commands: Sequence[Command], extra_seconds: float = 0.0
    ) -> asyncio.Future[list[Reply]]:
        """Run ``commands`` together; their replies in order, with ``ResponseError`` among them.

        It may take ``extra_seconds`` longer than a call. Raises ``Unavailable`` where a reply is missing.
        """
        loop = asyncio.get_running_loop()
        seconds = self._timeout + extra_seconds
        return self._enqueue(Batch(commands, loop.create_future(), seconds), loop)

    def _enqueue(self, request: Request, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        if self._closed:
            request.fail(_CLOSED, maybe_sent=False)
            return request.answer
        self._waiting.append(request)
        if self._timer is None:
            self._look_at(request.deadline, loop)
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
                task = asyncio.create_task(self._serve(), name="redis commands")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        elif not commands.transport.is_closing():
            commands.send(self._waiting)
        # What would be written to a connection that closes waits until that is gone.

    def _gathers(self) -> bool:
        """Whether to look once more, a turn later, before writing: this turn has brought more."""
        gathered, self._gathered = self._gathered, len(self._waiting)
        if self._commands is None or self._gathered <= gathered or not self._gathering:
            return False
        oldest = self._waiting[0]
        asked_at = oldest.deadline - oldest.seconds
        return asyncio.get_running_loop().time() < asked_at + self._gathering

    def _refused(self, commands: Commands, request: Request, error: ResponseError) -> None:
        name = code(error)
        if type(request) is Batch:
            request.take(error)
        elif type(request) is Single and name == "NOSCRIPT" and request.sha is not None:
            # It has forgotten the script, or has carried out no call that brought it.
            commands.known.discard(request.sha)
            request.unknown()
            self._waiting.appendleft(request)
        elif not (
            type(request) is Single and self._redirected and self._redirected(request, error)
        ):
            failure = meaning(error)
            self._stats.redis_errors += 1
            self._tell(failure.reason, logging.WARNING if name == "LOADING" else logging.ERROR)
            request.fail(failure, maybe_sent=failure.maybe_sent)
        if name in OTHER_CONNECTION:
            commands.retire()
            self._leave(commands)

    def _tell(self, error: str, level: int) -> None:
        """Log an error of Redis's the first time it is seen: it may come thousands of times.

        That it reads its file is one in passing, after each start.
        """
        if error not in self._told and len(self._told) < _ERRORS_TOLD:
            self._told.add(error)
            log.log(level, "redis_error reason=%s", error)

    # -- deadlines ----------------------------------------------------------------------------

    def _look_at(self, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(deadline - _LAST_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LAST_LOOK_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Fail the calls that are overdue, and give a connection up on which nothing comes."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        # A crowd before a Redis that hangs is not answered one time-out after the other.
        reason = "too many calls are waiting" if self._commands else "no connection in time"
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().fail(Unavailable(reason, maybe_sent=False), maybe_sent=False)
        for commands in self._open:
            if commands.under_way and commands.overdue_at <= now:
                commands.fail(_NO_ANSWER.reason)
                self._give_up(commands)
                self._trouble()
        due = self._next_due(now)
        if due is not None:
            self._look_at(due, loop)

    def _next_due(self, now: float) -> float | None:
        """When to look again. Fails the calls that Redis has and that wait no longer: it may well be alive."""
        due = [each.overdue_at for each in self._open if each.under_way]
        for request in chain(*(each.under_way for each in self._open), self._waiting):
            if request.deadline > now:
                due.append(request.deadline)
                break
            request.fail(_NO_ANSWER, maybe_sent=True)
        return min(due, default=None)

    # -- the connection -----------------------------------------------------------------------

    async def _serve(self) -> None:
        """Open a connection, send what waits for it, and stay until it is lost."""
        commands: Commands | None = None
        try:
            async with opened(self._server, self._timeout) as transport:
                self._opening = False
                self._commands = commands = Commands(
                    transport, self._refused, self._schedule, self._stats.round_trips
                )
                self._open.append(commands)
                self._schedule()
                await commands.lost
        except FAILURES as error:
            # What waits would wait for the next refusal, and for the one after that.
            self._trouble()
            failure = unavailable(error, maybe_sent=False)
            failure.__cause__ = cause(error)
            self._fail_waiting(failure)
        finally:
            if commands is None:
                self._opening = False
            else:
                self._lost(commands)

    def _lost(self, commands: Commands) -> None:
        self._open.remove(commands)
        if commands.under_way:
            commands.fail("connection lost")
            self._trouble()
        self._leave(commands)

    def _give_up(self, commands: Commands) -> None:
        """Close a connection, and with it what is under way."""
        commands.transport.abort()
        self._leave(commands)

    def _leave(self, commands: Commands) -> None:
        """Open another connection for what comes next."""
        if commands is self._commands:
            self._commands = None
        self._schedule()

    def drop(self) -> None:
        """Give the connection up, and with it what is under way; what comes next opens another."""
        if self._commands is not None:
            self._give_up(self._commands)

    def drop_if_idle(self) -> None:
        """Give the connection up if nothing is under way on it.

        After a failover, or over a way that is no more, it looks healthy, and would cost its next user a
        time-out: also when Redis has long been answering others.
        """
        if not self.under_way:
            self.drop()

    def _trouble(self) -> None:
        self._stats.redis_errors += 1
        self._troubled()

    def _fail_waiting(self, error: Unavailable) -> None:
        while self._waiting:
            self._waiting.popleft().fail(error, maybe_sent=False)

    async def aclose(self) -> None:
        """Close the connection; calls that are not answered fail, also those made from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._fail_waiting(_CLOSED)


_CLOSED: Final = Unavailable("the connection to Redis was closed here", maybe_sent=False)
_NO_ANSWER: Final = Unavailable("no answer in time", maybe_sent=True)
