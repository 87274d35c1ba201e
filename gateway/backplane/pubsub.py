"""The pub/sub connection: one for the node, that comes and goes while subscriptions stay.

The pub/sub connection: one for the node, that comes and goes while subscriptions stay.

Reading what comes live a little at a time when it is much, and less often when it is frequent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.contract.keys import Keys
from publisher.transport.pipeline import Reader, opened, pack

log = logging.getLogger(__name__)

_CHANNELS_PER_COMMAND: Final = 500

Handler = Callable[[bytes], None]
Command = tuple[bytes, bytes]


class Subscriber:
    """Holds subscriptions over connections that come and go. Implements ``ports.Feed``.

    Args:
        receive: takes the channel's name and the payload of each live message.
        restored: told when a new connection listens to everything again.
        connect_timeout: seconds for opening a connection.
        coalesce: seconds a message may wait for others (``moderation.py``).
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        receive: Callable[[str, bytes], None],
        restored: Callable[[], None],
        stats: Stats,
        connect_timeout: float,
        coalesce: float,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._receive = receive
        self._restored = restored
        self._stats = stats
        self._connect_timeout = connect_timeout
        self._coalesce = coalesce
        self._clock = clock
        self._backoff = Backoff(jitter)
        self._handlers: dict[bytes, Handler] = {}
        self._waiters: dict[bytes, asyncio.Future[None]] = {}
        # SUBSCRIBEs sent and not confirmed: only the last one's confirmation speaks of now.
        self._unconfirmed: dict[bytes, int] = {}
        self._queued: list[Command] = []
        self._protocol: ModeratedReader | None = None
        self._throttled = False
        self._restoring = False
        self._failing = False

    @property
    def connected(self) -> bool:
        """Whether a connection is there, and all it should listen to has been confirmed."""
        return self._protocol is not None and not self._restoring

    @property
    def received(self) -> int | None:
        """How often something has come over the present connection; ``None`` when there is none."""
        return None if self._protocol is None else self._protocol.received

    # -- subscriptions ------------------------------------------------------------------------

    async def subscribe(self, channel: str) -> None:
        """Listen to a live channel; returns once Redis has confirmed, however long that takes."""
        await self.listen(self._keys.live(channel), partial(self._receive, channel))

    def unsubscribe(self, channel: str) -> None:
        """Stop listening to a live channel."""
        name = self._keys.live(channel).encode()
        if self._handlers.pop(name, None) is not None:
            if (waiter := self._waiters.pop(name, None)) is not None:
                waiter.cancel()
            self._send(b"UNSUBSCRIBE", name)

    async def listen(self, name: str, handler: Handler) -> None:
        """Listen to any pub/sub channel, as :meth:`subscribe` does."""
        raw = name.encode()
        self._handlers[raw] = handler
        waiter = self._waiters[raw] = asyncio.get_running_loop().create_future()
        self._send(b"SUBSCRIBE", raw)
        await waiter

    def _send(self, verb: bytes, name: bytes) -> None:
        """Queue a command; those of one turn of the event loop leave in one write, in their order."""
        if self._protocol is None:
            return  # a new connection subscribes to everything there is
        if verb == b"SUBSCRIBE":
            self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
        if not self._queued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._queued.append((verb, name))

    def _flush(self) -> None:
        queued, self._queued = self._queued, []
        if self._protocol is not None:
            for verb, commands in groupby(queued, key=lambda command: command[0]):
                self._write(self._protocol, verb, (name for _, name in commands))

    @staticmethod
    def _write(protocol: Reader, verb: bytes, names: Iterable[bytes]) -> None:
        for some in chunks(names, _CHANNELS_PER_COMMAND):
            protocol.transport.write(pack((verb, *some)))

    # -- the connection -----------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        while True:
            try:
                await self._serve()
            except (RedisError, OSError, TimeoutError) as error:
                level = logging.DEBUG if self._failing else logging.WARNING
                log.log(level, "subscriber_failed reason=%s", str(error) or type(error).__name__)
                self._failing = True
            self._stats.redis_reconnects += 1
            await asyncio.sleep(self._backoff.next())

    async def _serve(self) -> None:
        """Open a connection, subscribe to everything, and stay until it is lost."""
        try:
            async with opened(self._pool, self._connect_timeout) as transport:
                self._protocol = ModeratedReader(
                    transport, self._handle, self._coalesce, self._clock
                )
                self._protocol.throttle(self._throttled)
                self._queued.clear()
                self._unconfirmed = dict.fromkeys(self._handlers, 1)
                self._restoring = bool(self._handlers)
                self._write(self._protocol, b"SUBSCRIBE", self._handlers)
                self._failing = False
                log.info("subscriber_connected channels=%d", len(self._handlers))
                await self._protocol.lost
                log.warning("subscriber_lost channels=%d", len(self._handlers))
        finally:
            self._protocol = None

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise; what Redis has to say waits in its buffers."""
        self._throttled = throttled
        if self._protocol is not None:
            self._protocol.throttle(throttled)

    def rebuild(self) -> None:
        """Give the connection up and open another."""
        if self._protocol is not None:
            self._protocol.transport.abort()

    def _handle(self, reply: Any) -> None:
        """Take what Redis says: nearly always ``[b"message", channel, payload]``."""
        if type(reply) is not list:
            # Such as a permission that is missing: nothing would ever be confirmed.
            log.error("subscriber_error reason=%s", reply)
            self.rebuild()
            return
        if reply[0] == b"message":
            handler = self._handlers.get(reply[1])
            if handler is not None:
                handler(reply[2])
        elif reply[0] == b"subscribe":
            self._confirmed(reply[1])

    def _confirmed(self, name: bytes) -> None:
        left = self._unconfirmed.pop(name, 1) - 1
        if left > 0:
            self._unconfirmed[name] = left
            return
        waiter = self._waiters.pop(name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._restoring and not self._unconfirmed:
            self._restoring = False
            # Not as soon as it opens: one that Redis closes again at once is to be tried less often.
            self._backoff.reset()
            self._restored()


READ_BYTES_PER_TURN: Final = 64 * 1024
"""After as much, the rest waits for the next turn of the event loop, so that pongs, handshakes and the probe
have theirs. uvloop reads up to 256 KiB at once, so a turn brings less than that and this."""


class ModeratedReader(Reader):
    """Pauses for a moment while messages come one hard on the heels of the other.

    A message that wakes an idle process costs some 50 µs, most of it for waking up; one that comes together with
    others a few. So when reads follow each other within two moments, the next one is put off by a moment; what comes
    after a quiet while is read at once. (Network cards do the same, as interrupt moderation.)

    Args:
        moment: seconds a message may wait for others; 0 for none.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        handle: Callable[[Any], None],
        moment: float,
        clock: Clock,
    ) -> None:
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
        super().data_received(data)
        if len(data) >= READ_BYTES_PER_TURN:
            self._waits = True
            self._set()
            self._loop.call_soon(self._go_on)
        elif self._moment:
            now = self._clock()
            if now - self._read_at < 2 * self._moment:
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
