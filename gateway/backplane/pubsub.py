"""The pub/sub connection: one for the node. Connections come and go while subscriptions stay."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, Final, Protocol

from gateway.backplane.read_turn import ReadTurn
from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.node.tasks import Sleep
from publisher.transport.connection import Reader
from publisher.transport.failures import FAILURES
from publisher.transport.resp import pack

log = logging.getLogger(__name__)

_LONGEST_TICK_SECONDS: Final = 0.5
"""What is longer was held up by the event loop, and counts no more than that."""


class ListeningTime:
    """The seconds in which the pub/sub connection was read by an event loop that was on time.

    Only in this time does silence prove anything: what has come while the node read nothing, or while
    its event loop stood still, waits unread in the buffers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted = 0.0
        self._began_at = clock()
        # Of the present tick: how long nothing was read, and since when nothing is.
        self._unread = 0.0
        self._throttled_at: float | None = None

    @property
    def seconds(self) -> float:
        """The time so far, from any one moment."""
        now = self._clock()
        unread = self._unread
        if self._throttled_at is not None:
            unread += now - self._throttled_at
        return self._counted + max(0.0, min(now - self._began_at, _LONGEST_TICK_SECONDS) - unread)

    def throttle(self, throttled: bool) -> None:
        """Nothing is read from now on, or it is again."""
        now = self._clock()
        if self._throttled_at is not None:
            self._unread += now - self._throttled_at
        self._throttled_at = now if throttled else None

    def tick(self) -> None:
        """Count what has passed since the last tick; to be called several times a second."""
        self._counted = self.seconds
        now = self._clock()
        self._began_at, self._unread = now, 0.0
        if self._throttled_at is not None:
            self._throttled_at = now


READ_BYTES_PER_TURN: Final = 64 * 1024
"""After as much, the rest waits for the next turn of the event loop, so that pongs, handshakes and the probe
have theirs. uvloop reads up to 256 KiB at once, so a turn brings less than that and this."""


_WORTH_WAITING: Final = 8
"""Messages that a moment has to bring at the rate at which they come, for the next ones to be worth the wait."""


class ModeratedReader(Reader):
    """Pauses for a moment while many messages come one hard on the heels of the other.

    A message that wakes an idle process costs some 50 µs, most of it for waking up; one that comes together with
    others a few. So when messages come at such a rate that a moment brings some, the next read is put off by a moment;
    what comes at a lower rate is read at once. (Network cards do the same, as interrupt moderation.)

    Args:
        moment: seconds a message may wait for others; 0 for none.
        turn: ends with each read.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        handle: Callable[[Any], None],
        moment: float,
        clock: Clock,
        turn: ReadTurn,
    ) -> None:
        self._turn = turn
        self._moment = moment
        self._clock = clock
        self._read_at = clock() - 2 * moment
        self._loop = asyncio.get_running_loop()
        self._waits = False
        self._throttled = False
        self._paused = False
        super().__init__(transport, handle)

    def data_received(self, data: bytes) -> None:
        """Part of the hot path."""
        self._turn.begin()
        try:
            super().data_received(data)
            # Before what came is written: the moment begins now.
            self._moderate(len(data))
        finally:
            self._turn.end()

    def _moderate(self, size: int) -> None:
        """Put the next read off, for others or for more messages."""
        if size >= READ_BYTES_PER_TURN:
            self._waits = True
            self._set()
            self._loop.call_soon(self._go_on)
        elif self._moment:
            now = self._clock()
            if (now - self._read_at) * _WORTH_WAITING < self._moment * self.together:
                self._waits = True
                self._set()
                self._loop.call_later(self._moment, self._go_on)
            self._read_at = now

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise: what was read is more than can be written at once."""
        self._throttled = throttled
        self._set()

    def _go_on(self) -> None:
        self._waits = False
        self._set()

    def _set(self) -> None:
        paused = self._waits or self._throttled
        if paused != self._paused and not self.transport.is_closing():
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()


_CHANNELS_PER_COMMAND: Final = 500
_TOLD_AGAIN_SECONDS: Final = 60.0
"""So often the log tells of trouble with a connection that lasts."""
_NOTHING: Final = (b"", b"", None)

Handler = Callable[[bytes], None]
Confirmed = asyncio.Future[None]
Connect = Callable[[], AbstractAsyncContextManager[asyncio.Transport]]
Command = tuple[bytes, bytes, Confirmed | None]
"""Verb, name, and who waits for the answer."""
MakeReader = Callable[[asyncio.Transport, Callable[[Any], None]], ModeratedReader]


class Subscriber:
    """Holds subscriptions over connections that come and go.

    Redis answers the commands of a connection in their order (one reply for each name), so an answer to
    anything but the oldest command proves that something was lost on the way.

    Args:
        connect: opens a connection; raises one of ``FAILURES``.
        server: where the last one leads, as a person reads it.
        make_reader: makes the reader of a connection.
        listening: told when nothing is read.
        changed: told ``True`` when a new connection listens to everything again, ``False`` when it is lost, and when
            the first one fails.
        jitter: a number from 0 to 1.
    """

    SUBSCRIBE: ClassVar[bytes] = b"SUBSCRIBE"
    UNSUBSCRIBE: ClassVar[bytes] = b"UNSUBSCRIBE"

    def __init__(
        self,
        connect: Connect,
        server: Callable[[], str],
        make_reader: MakeReader,
        listening: ListeningTime,
        changed: Callable[[bool], None],
        stats: Stats,
        jitter: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._server = server
        self._make_reader = make_reader
        self._listening = listening
        self._changed = changed
        self._stats = stats
        self._backoff = Backoff(jitter)
        self._sleep = Sleep()
        self._handlers: dict[bytes, Handler] = {}
        # Names that were never confirmed since they were subscribed to.
        self._waiting: dict[bytes, Confirmed] = {}
        self._queued: list[Command] = []
        # What the present connection has been sent and has not answered, the oldest first.
        self._unanswered: deque[Command] = deque()
        self._protocol: ModeratedReader | None = None
        self._throttled = False
        # Whether the next connection follows one that was lost.
        self._anew = False
        # How many answers are missing until this connection listens to all that there was at its opening.
        self._restoring = 0
        # Whether ``changed`` has been told of the loss, and when the log may tell of trouble again.
        self._is_lost = False
        self._tell_at = float("-inf")
        self.answered = 0
        """How many commands have been answered, over all connections."""

    @property
    def connected(self) -> bool:
        """Whether a connection is there that listens to all that there was when it was opened."""
        return self._protocol is not None and not self._restoring

    @property
    def received(self) -> int | None:
        """How often something has come over the present connection; ``None`` when there is none."""
        return None if self._protocol is None else self._protocol.received

    # -- subscriptions ------------------------------------------------------------------------

    def listen(self, name: str, handler: Handler) -> Confirmed:
        """Listen to a pub/sub channel; done once Redis has confirmed, on whichever connection."""
        raw = name.encode()
        self._handlers[raw] = handler
        confirmed = self._waiting[raw] = asyncio.get_running_loop().create_future()
        self._send((self.SUBSCRIBE, raw, confirmed))
        return confirmed

    def drop(self, name: str) -> None:
        """Stop listening to a pub/sub channel; one that was not listened to is no error."""
        raw = name.encode()
        if self._handlers.pop(raw, None) is not None:
            if (confirmed := self._waiting.pop(raw, None)) is not None:
                confirmed.cancel()
            self._send((self.UNSUBSCRIBE, raw, None))

    def _send(self, command: Command) -> None:
        """Queue a command; those of one turn of the event loop leave in one write, in their order."""
        if self._protocol is None:
            return  # a new connection subscribes to everything there is
        if not self._queued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._queued.append(command)

    def _flush(self) -> None:
        queued, self._queued = self._queued, []
        if self._protocol is not None:
            self._write(self._protocol, queued)

    def _write(self, protocol: Reader, commands: Iterable[Command]) -> None:
        for verb, same in groupby(commands, key=itemgetter(0)):
            for some in chunks(same, _CHANNELS_PER_COMMAND):
                protocol.write(pack((verb, *(name for _, name, _ in some))))
                self._unanswered.extend(some)

    # -- the connection -----------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        while True:
            try:
                await self._serve()
            except FAILURES as error:
                reason = str(error) or type(error).__name__
                self._complain("subscriber_failed server=%s reason=%s", self._server(), reason)
            self._note_loss()
            await self._sleep(self._backoff.next())

    async def _serve(self) -> None:
        """Open a connection, subscribe to everything, and stay until it is lost."""
        try:
            async with self._connect() as transport:
                self._stats.redis_reconnects += self._anew
                self._anew = True
                self._protocol = protocol = self._make_reader(transport, self._handle)
                protocol.throttle(self._throttled)
                self._queued.clear()
                self._unanswered.clear()
                self._write(
                    protocol,
                    [(self.SUBSCRIBE, name, self._waiting.get(name)) for name in self._handlers],
                )
                self._restoring = len(self._unanswered)
                self._opened()
                await protocol.lost
                count = len(self._handlers)
                self._complain("subscriber_lost server=%s channels=%d", self._server(), count)
        finally:
            self._protocol = None

    def _opened(self) -> None:
        """A connection has been opened, and is subscribing to what there is."""

    def _restored(self) -> None:
        """It listens to all that there is."""
        log.info("subscriber_connected server=%s channels=%d", self._server(), len(self._handlers))
        self._is_lost = False
        self._changed(True)

    def _note_loss(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._changed(False)

    def _complain(self, event: str, *values: object) -> None:
        """Log trouble with the connection, at once and then once a minute until all is restored."""
        now = asyncio.get_running_loop().time()
        level = logging.DEBUG
        if now >= self._tell_at:
            level, self._tell_at = logging.WARNING, now + _TOLD_AGAIN_SECONDS
        log.log(level, event, *values)

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise; what Redis has to say waits in its buffers."""
        self._throttled = throttled
        self._listening.throttle(throttled)
        if self._protocol is not None:
            self._protocol.throttle(throttled)

    def rebuild(self) -> None:
        """Give the connection up and open another."""
        if self._protocol is not None:
            self._protocol.transport.abort()

    def move(self) -> None:
        """Give the connection up and open another without a pause: it would lead elsewhere."""
        self._sleep.end()
        self.rebuild()

    # -- what Redis says ----------------------------------------------------------------------

    def _handle(self, reply: Any) -> None:
        """Take what Redis says: nearly always ``[b"message", channel, payload]``."""
        if type(reply) is not list:
            # An error, such as a missing permission: no name of that command is ever confirmed.
            self._complain("subscriber_refused server=%s reason=%s", self._server(), reply)
            self.rebuild()
            return
        if reply[0] == b"message":
            handler = self._handlers.get(reply[1])
            if handler is not None:
                handler(reply[2])
        else:
            self._answer(reply[0], reply[1])

    def _answer(self, kind: bytes, name: bytes) -> None:
        assert self._protocol is not None
        if self._protocol.transport.is_closing():
            return  # given up; what it still says is about subscriptions that end with it
        verb, expected, confirmed = self._unanswered.popleft() if self._unanswered else _NOTHING
        if (verb.lower(), expected) != (kind, name):
            self._complain(
                "subscriber_out_of_step server=%s expected=%r answered=%r",
                *(self._server(), expected, name),
            )
            self.rebuild()
            return
        self.answered += 1
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)
            # A later SUBSCRIBE to the same name waits for an answer of its own.
            if self._waiting.get(name) is confirmed:
                del self._waiting[name]
        self._note_answer()

    def _note_answer(self) -> None:
        """One answer fewer is missing."""
        if self._restoring:
            self._restoring -= 1
            if not self._restoring:
                self._tell_at = float("-inf")
                # Not as soon as it opens: one that Redis closes again at once is to be tried less often.
                self._backoff.reset()
                self._restored()


class Names(Protocol):
    """Subscriptions to names of pub/sub, wherever they are held."""

    def listen(self, name: str, handler: Handler) -> Confirmed: ...
    def drop(self, name: str) -> None: ...
