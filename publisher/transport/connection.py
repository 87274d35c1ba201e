"""A connection to Redis for asyncio: opened by the redis package, read by a plain protocol.

The package's own reader costs three times the CPU for each reply. :class:`Reader` hands on whatever Redis says;
:class:`Commands` writes requests, and what it says is their answers, first in, first out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import repeat
from typing import Any, Final, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Command, Reply
from publisher.errors import Unavailable
from publisher.transport.failures import FAILURES
from publisher.transport.resp import ProtocolError, pack, pack_all, replies

log = logging.getLogger(__name__)

MAX_UNDER_WAY: Final = 1_000
"""Commands written and not answered. What comes meanwhile gathers, so that load makes the writes larger."""

_SILENT: Final = 0.9
"""A connection is given up when Redis has been silent for this part of what a command that was sent may take.
A little less than all of it, so that the connection ends with the calls that its silence has failed."""


class Server(Protocol):
    """Makes connections of the redis package to one server, and opens them (``primary.py``)."""

    def __call__(self) -> Any: ...
    def open(self, connection: Any) -> Awaitable[None]: ...


@contextlib.asynccontextmanager
async def opened(server: Server, seconds: float) -> AsyncIterator[asyncio.Transport]:
    """A new connection's transport, closed at the block's end.

    Args:
        server: where it is to lead.
        seconds: how long opening it may take.

    Raises:
        RedisError, OSError, Unavailable: it could not be opened.
    """
    connection = server()
    try:
        yield await _open(server, connection, seconds)
    finally:
        # Of a connection that is gone already the event loop may say so in any way.
        with contextlib.suppress(Exception):
            await connection.disconnect(nowait=True)


async def _open(server: Server, connection: Any, seconds: float) -> asyncio.Transport:
    try:
        async with asyncio.timeout(seconds):
            await server.open(connection)
        # The package has no public way to hand its transport over; a test holds it to this one.
        reader, writer = connection._reader, connection._writer  # noqa: SLF001
        transport = cast(asyncio.Transport, writer.transport)
        gone = transport.is_closing() or reader.at_eof()
    except FAILURES:
        raise
    except Exception as error:
        # uvloop raises a RuntimeError where asyncio raises a ConnectionError.
        raise RedisConnectionError(f"the connection could not be opened: {error}") from error
    if gone:
        # Nobody would tell the next protocol of an end that has already come.
        raise RedisConnectionError("the connection was closed while it was being opened")
    return transport


class RoundTrips(Protocol):
    """Measures round trips: how long the last command of a write waits for its reply."""

    def written(self) -> float: ...
    def answered(self, written_at: float, /) -> None: ...


class Reader(asyncio.Protocol):
    """Reads what arrives and hands every reply on.

    ``received`` counts how often something has come, and ``together`` the replies that came with the last of it;
    ``lost`` is done when the connection is gone.

    Args:
        handle: takes each reply; an error that Redis answers with is a ``ResponseError``.
    """

    def __init__(self, transport: asyncio.Transport, handle: Callable[[Any], None]) -> None:
        self.transport = transport
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self.together = 0
        self._replies = replies()
        self._handle = handle
        transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Send ``data``, unless the connection is closing: ``lost`` tells of that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Part of the hot path: no await, no task, no object beyond the replies."""
        self.received += 1
        count = 0
        replies = self._replies
        try:
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                count += 1
                try:
                    self._handle(reply)
                except Exception:
                    log.exception("message_handler_failed")
        except ProtocolError:
            log.exception("redis_protocol_error")
            self.transport.abort()
        self.together = count

    def connection_lost(self, _error: Exception | None) -> None:
        """The transport is gone."""
        if not self.lost.done():
            self.lost.set_result(None)


async def answers(server: Server, commands: Sequence[Command], seconds: float) -> list[Reply]:
    """What a server answers over a connection of its own, pub/sub included; errors are among the replies.

    Raises:
        RedisError, OSError, TimeoutError, Unavailable: it could not be opened, or not all was answered in ``seconds``.
    """
    heard: asyncio.Queue[Reply] = asyncio.Queue()
    async with asyncio.timeout(seconds), opened(server, seconds) as transport:
        Reader(transport, heard.put_nowait).write(pack_all(commands))
        return [await heard.get() for _ in commands]


class Request:
    """Bytes on their way: ``answer`` becomes what they ask for, or an ``Unavailable``.

    ``deadline`` is in loop time, ``size`` how many replies will come, ``sha`` the hash of the script that it calls.
    """

    __slots__ = ("answer", "deadline", "packed", "seconds", "sha", "size")

    def __init__(
        self,
        packed: bytes,
        size: int,
        answer: asyncio.Future[Any],
        seconds: float,
        sha: str | None = None,
    ) -> None:
        self.sha = sha
        self.packed = packed
        self.size = size
        self.answer = answer
        self.seconds = seconds
        self.deadline = answer.get_loop().time() + seconds

    def fail(self, error: Unavailable, *, maybe_sent: bool) -> None:
        """Answer with an error, unless nobody waits any more. Each waiter raises one of its own."""
        if not self.answer.done():
            self.answer.set_exception(error.told(maybe_sent=maybe_sent))


class Single(Request):
    """One call, whose reply is the answer."""

    __slots__ = ("_unknown", "call")

    def __init__(self, call: Call, answer: asyncio.Future[Reply], seconds: float) -> None:
        script = call.script
        super().__init__(pack(call.cached()), 1, answer, seconds, script.sha if script else None)
        self.call = call
        self._unknown = False

    def unknown(self) -> None:
        """Redis did not know the script. The second time the call brings its text for good, wherever it is led."""
        if self._unknown:
            self.sha = None
            self.packed = pack(self.call.whole())
        self._unknown = True


class Batch(Request):
    """Commands that go together; the answer is the list of their replies, with errors in place."""

    __slots__ = ("replies",)

    def __init__(
        self, commands: Sequence[Command], answer: asyncio.Future[list[Reply]], seconds: float
    ) -> None:
        super().__init__(pack_all(commands), len(commands), answer, seconds)
        self.replies: list[Reply] = []

    def take(self, reply: Reply) -> None:
        """Note the next reply; the last one makes the answer."""
        self.replies.append(reply)
        if len(self.replies) == self.size and not self.answer.done():
            self.answer.set_result(self.replies)


class Commands(Reader):
    """Writes requests, and answers them first in, first out.

    The first call of each script brings its text, the others its hash. ``under_way`` holds a request once for each
    reply that it waits for; ``known`` has the hashes of the scripts whose text was sent.

    Args:
        refused: told the request that Redis has answered with an error, and the error.
        room: told that something was answered, once for all that arrived together.
        round_trips: told of the writes; of several under way one is measured.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        refused: Callable[[Commands, Request, ResponseError], None],
        room: Callable[[], None],
        round_trips: RoundTrips | None = None,
    ) -> None:
        super().__init__(transport, self._answer)
        self._round_trips = round_trips
        self._measured: Request | None = None
        self._written_at = 0.0
        self._refused = refused
        self._room = room
        self._clock = asyncio.get_running_loop().time
        self._silent_since = self._clock()
        self._retired = False
        self.under_way: deque[Request] = deque()
        # Of what calls no script nothing has to be known.
        self.known: set[str | None] = {None}

    def retire(self) -> None:
        """End once all that is under way has been answered. Nothing more may be sent."""
        self._retired = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._retired and not self.under_way:
            self.transport.abort()

    def send(self, waiting: deque[Request]) -> None:
        """Write what waits in one piece, or as much as may be under way."""
        room = MAX_UNDER_WAY - len(self.under_way)
        if room < min(len(waiting), MAX_UNDER_WAY // 2):
            return  # a few at a time would be many writes
        if not self.under_way:
            self._silent_since = self._clock()
        packed: list[bytes] = []
        while waiting and room > 0:
            request = waiting.popleft()
            if not request.answer.done():
                room -= request.size
                if request.size == 1:
                    self.under_way.append(request)
                else:
                    self.under_way.extend(repeat(request, request.size))
                packed.append(request.packed if request.sha in self.known else self._whole(request))
        if packed:
            self.write(b"".join(packed))
            if self._round_trips is not None:
                self._measure(self._round_trips.written())

    def _measure(self, written_at: float) -> None:
        if self._measured is None:
            self._measured, self._written_at = self.under_way[-1], written_at

    def _whole(self, request: Request) -> bytes:
        """A script's text instead of its hash: Redis knows it from then on."""
        assert type(request) is Single, "a batch calls no script by its hash"
        self.known.add(request.sha)
        # Only this once: a server that it may be led to may know the hash.
        return pack(request.call.whole())

    def data_received(self, data: bytes) -> None:
        """Answer what has its reply."""
        super().data_received(data)
        self._silent_since = self._clock()
        self._end_if_done()
        self._room()

    def _answer(self, reply: Reply) -> None:
        if not self.under_way:
            # Which reply belongs to which request would be a guess from here on.
            self.transport.abort()
            raise RuntimeError(f"Redis says what nobody asked for: {reply!r}")
        request = self.under_way.popleft()
        if request is self._measured and self._round_trips is not None:
            self._measured = None
            self._round_trips.answered(self._written_at)
        if type(reply) is ResponseError:
            self._refused(self, request, reply)
        elif type(request) is Batch:
            request.take(reply)
        elif not request.answer.done():
            request.answer.set_result(reply)

    @property
    def overdue_at(self) -> float:
        """When the connection has to be given up, should Redis go on saying nothing. There is something under way."""
        return self._silent_since + _SILENT * self.under_way[0].seconds

    def fail(self, reason: str) -> None:
        """Fail what is under way: it was written, so nobody knows what became of it."""
        error = Unavailable(reason, maybe_sent=True)
        while self.under_way:
            self.under_way.popleft().fail(error, maybe_sent=True)
