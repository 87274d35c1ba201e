"""A pipelined connection to Redis: calls made in the same turn of the event loop leave in one write.

The client library opens the connection (TLS, authentication); from then on a plain asyncio protocol reads it
with hiredis, since the library's own reader costs three times the CPU for each reply. Replies answer the calls
first in, first out, without a task or a timer for any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain
from typing import Any, Final, Protocol, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from publisher.contract.calls import Argument, Call, Reply
from publisher.errors import Unavailable
from publisher.transport.failures import FAILURES, unavailable

log = logging.getLogger(__name__)

_ERRORS_TOLD: Final = 100
_GATHERING_SECONDS: Final = 0.005
"""So long calls may wait for others while each turn of the event loop brings more. A write and the
reading of what it brings back cost as much as ten calls: in a storm this saves a third of all CPU."""
_OTHER_CONNECTION: Final = frozenset({"READONLY", "NOAUTH"})
"""Codes of errors that another connection may mend: a primary that has become a replica, a password
that was changed."""


MAX_UNDER_WAY: Final = 1_000
"""Calls written and not answered. What comes meanwhile gathers, so that load makes the writes larger."""


@contextlib.asynccontextmanager
async def opened(pool: ConnectionPool, seconds: float) -> AsyncIterator[asyncio.Transport]:
    """A new connection's transport, closed at the block's end.

    Raises:
        RedisError, OSError: it could not be opened, within ``seconds`` at most.
    """
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        async with asyncio.timeout(seconds):
            await connection.connect()  # type: ignore[no-untyped-call]
        yield _take_over(connection)
    finally:
        await connection.disconnect(nowait=True)


def _take_over(connection: AbstractConnection) -> asyncio.Transport:
    # The library has no public way to hand its transport over; a test holds it to this one.
    writer = connection._writer  # noqa: SLF001
    assert writer is not None
    return cast(asyncio.Transport, writer.transport)


def pack(command: Sequence[Argument]) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub is narrower
    return packed


class Reader(asyncio.Protocol):
    """Feeds what arrives to hiredis and hands every reply on.

    ``received`` counts how often something has come; ``lost`` is done when the connection is gone.

    Args:
        handle: takes each reply; an error that Redis answers with is a ``hiredis.ReplyError``.
    """

    def __init__(self, transport: asyncio.Transport, handle: Callable[[Any], None]) -> None:
        self.transport = transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self._replies = hiredis.Reader()
        self._handle = handle
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Part of the hot path: no await, no task, no object beyond the replies."""
        self.received += 1
        replies = self._replies
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                try:
                    self._handle(reply)
                except Exception:
                    log.exception("message_handler_failed")
        except hiredis.ProtocolError:
            log.exception("redis_protocol_error")
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        if not self.lost.done():
            self.lost.set_result(None)


class Request:
    """A call on its way: ``answer`` becomes its reply or an ``Unavailable``; ``deadline`` in loop time."""

    __slots__ = ("answer", "call", "deadline", "packed", "whole")

    def __init__(self, call: Call, answer: asyncio.Future[Reply], deadline: float) -> None:
        self.call = call
        self.answer = answer
        self.deadline = deadline
        self.whole = call.script is None
        self.packed = pack(call.cached())

    def make_whole(self) -> None:
        """Send the script itself: Redis does not know it yet."""
        self.whole = True
        self.packed = pack(self.call.whole())

    def fail(self, reason: str, *, maybe_sent: bool) -> None:
        """Answer with an error, unless nobody waits any more. Each waiter raises one of its own."""
        if not self.answer.done():
            self.answer.set_exception(Unavailable(reason, maybe_sent=maybe_sent))


class Commands(Reader):
    """Writes requests, and answers them first in, first out.

    Args:
        refused: told the request that Redis has answered with an error, and the error's text.
        room: told that something was answered, once for all that arrived together.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        refused: Callable[[Commands, Request, str], None],
        room: Callable[[], None],
    ) -> None:
        super().__init__(transport, self._answer)
        self._refused = refused
        self._room = room
        self.under_way: deque[Request] = deque()

    def send(self, waiting: deque[Request]) -> None:
        """Write what waits in one piece, or as much as may be under way."""
        room = MAX_UNDER_WAY - len(self.under_way)
        if room < min(len(waiting), MAX_UNDER_WAY // 2):
            return  # a few at a time would be many writes
        packed: list[bytes] = []
        while waiting and len(packed) < room:
            request = waiting.popleft()
            if not request.answer.done():
                self.under_way.append(request)
                packed.append(request.packed)
        if packed:
            self.transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        """Answer what has its reply."""
        super().data_received(data)
        self._room()

    def _answer(self, reply: Reply) -> None:
        if not self.under_way:
            # Which reply belongs to which request would be a guess from here on.
            self.transport.abort()
            raise RuntimeError(f"Redis says what nobody asked for: {reply!r}")
        request = self.under_way.popleft()
        if type(reply) is hiredis.ReplyError:
            self._refused(self, request, str(reply))
        elif not request.answer.done():
            request.answer.set_result(reply)

    def fail(self, reason: str) -> None:
        """Fail what is under way: it was written, so nobody knows what became of it."""
        while self.under_way:
            self.under_way.popleft().fail(reason, maybe_sent=True)


class Counts(Protocol):
    """Where errors are counted."""

    redis_errors: int


def has_failed(answer: asyncio.Future[Reply]) -> bool:
    """Whether a call that was begun has come to nothing.

    It is looked at by that, so that asyncio does not complain of an error that nobody has seen.
    """
    return answer.cancelled() or answer.exception() is not None


class Pipeline:
    """Runs single calls over a connection of its own, opened when there is something to say.

    Args:
        timeout: seconds a call may take, and the opening of a connection.
        troubled: told when the connection fails.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        stats: Counts,
        timeout: float,
        troubled: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()
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
                task = asyncio.create_task(self._serve(), name="redis commands")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
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
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._fail_waiting("the node has stopped")
