"""Accepting connections: a few in a turn of the event loop, no more in a second than TLS may be begun with, and none while
the process has no files for them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from gateway.core.log_limit import LogLimit
from gateway.core.rate_limit import TokenBucket
from gateway.web.tls import ServerTls, cause_of

log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Connections in one turn. Of a crowd the others wait in the listener's backlog, and those who are here are served."""
_PAUSE_SECONDS: Final = 0.1
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_TLS_PAUSE_SECONDS: Final = 0.005
"""Between two looks whether TLS may be begun with again."""
_TLS_SECONDS: Final = 10.0
"""How long a client may take to agree on TLS."""
_FAREWELL_SECONDS: Final = 5.0
"""How long it may take what is written before TLS ends: as long as the answer to a close frame."""

_MOST_IN_TLS: Final = 1_000
"""Handshakes of TLS at a time. All their clients could go on in the same moment, and each then takes a third of a
millisecond in one turn of the event loop."""

P = TypeVar("P", bound=asyncio.Protocol)


class Service(Protocol[P]):
    """Serves the connections of a port."""

    def is_worth_tls(self, address: object) -> bool:
        """Whether to agree on TLS with who comes from this address; if not, the connection is closed at once."""

    def accept(self, accepted: socket.socket, address: object) -> P:
        """What serves a connection, which comes from this address."""

    def failed(self, protocol: P, address: object, cause: str) -> None:
        """The client and we have not agreed on TLS; the connection is over."""


class Acceptor(Generic[P]):
    """Accepts the connections of a listener.

    The event loops would do that too. But uvloop closes its listener, or the connections, without a word when the
    process has no more files, and asyncio logs each try with a traceback; both accept the whole backlog at once.

    Args:
        listener: a socket that listens.
        service: whoever serves them.
        last_file: a connection with this file number or a higher one is closed. The system gives the lowest number that
            is free, so that a high one tells of many open files, whatever they are.
        tls: what encrypts them, if anything does.
        tls_rate: with how many TLS is begun in a second; the others wait in the listener's backlog.
    """

    def __init__(
        self,
        listener: socket.socket,
        service: Service[P],
        last_file: int,
        tls: ServerTls | None = None,
        tls_rate: float = math.inf,
    ) -> None:
        self._listener = listener
        self._service = service
        self._last_file = last_file
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        # While the loop is held up, no more come together than are accepted in a turn.
        self._bucket = TokenBucket(tls_rate, _AT_ONCE, self._loop.time())
        self._limit = LogLimit(self._loop.time(), burst=1)
        self._pause: asyncio.TimerHandle | None = None
        # In the order in which they came.
        self._beginning: dict[asyncio.Task[object], tuple[P, object]] = {}
        listener.setblocking(False)
        self._resume()

    async def aclose(self) -> None:
        """Accept no more, and close the listener; what was accepted has its protocol then."""
        if self._pause is None:
            self._loop.remove_reader(self._listener)
        else:
            self._pause.cancel()
        self._listener.close()
        if self._tls is not None:
            for task in self._beginning:
                task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._tls is not None and not self._bucket.has(1.0, self._loop.time()):
                self._wait(_TLS_PAUSE_SECONDS)
                return
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait_for_files(error.errno)
                    return
                continue  # what had become of this connection meanwhile (accept(2))
            if accepted.fileno() >= self._last_file:
                accepted.close()
                self._wait_for_files(errno.EMFILE)
                return
            if self._tls is not None:
                if not self._service.is_worth_tls(address):
                    accepted.close()
                    continue
                self._bucket.take(1.0, self._loop.time())
            self._begin(accepted, address)

    def _begin(self, accepted: socket.socket, address: object) -> None:
        accepted.setblocking(False)
        protocol = self._service.accept(accepted, address)
        connect = partial(self._loop.connect_accepted_socket, lambda: protocol, accepted)
        task: asyncio.Task[object] = self._loop.create_task(
            connect()
            if self._tls is None
            else connect(
                ssl=self._tls.context,
                ssl_handshake_timeout=_TLS_SECONDS,
                ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )
        )
        self._beginning[task] = protocol, address
        task.add_done_callback(partial(self._begun, accepted))
        if self._tls is not None and len(self._beginning) > _MOST_IN_TLS:
            self._end_oldest()

    def _end_oldest(self) -> None:
        task, beginning = next(iter(self._beginning.items()))
        if task.cancel():  # else it has just ended, and leaves by itself
            del self._beginning[task]
            self._service.failed(*beginning, "crowded")

    def _begun(self, accepted: socket.socket, task: asyncio.Task[object]) -> None:
        beginning = self._beginning.pop(task, None)
        if task.cancelled() or beginning is None:
            accepted.close()  # a task that has not begun has given it to nobody
            return
        error = task.exception()
        if isinstance(error, OSError) and self._tls is not None:
            self._service.failed(*beginning, cause_of(error))
        elif error is not None:
            log.error("connection_failed", exc_info=error)

    def _wait_for_files(self, number: int) -> None:
        left_out = self._limit.admit("files_exhausted", self._loop.time())
        if left_out is not None:
            port = self._listener.getsockname()[1]
            log.error("files_exhausted port=%s reason=%r", port, os.strerror(number))
        self._wait(_PAUSE_SECONDS)

    def _wait(self, seconds: float) -> None:
        """Leave the others in the backlog for a moment."""
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)
