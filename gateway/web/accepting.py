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
from gateway.web import beginning_tls
from gateway.web.beginning_tls import BeginningTls
from gateway.web.tls import ServerTls

log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Connections in one turn. Of a crowd the others wait in the listener's backlog, and those who are here are served."""
_PAUSE_SECONDS: Final = 0.1
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_TLS_PAUSE_SECONDS: Final = 0.005
"""Between two looks whether those may be accepted again who begin with TLS."""

P = TypeVar("P", bound=asyncio.Protocol)


class Service(beginning_tls.Service[P], Protocol[P]):
    """Serves the connections of a port."""

    def accept(self, accepted: socket.socket, address: object) -> P:
        """What serves a connection, which comes from this address."""


class Acceptor(Generic[P]):
    """Accepts the connections of a listener, from ``start`` on.

    The event loops would do that too. But uvloop closes its listener, or the connections, without a word when the
    process has no more files, and asyncio logs each try with a traceback; both accept the whole backlog at once.

    Args:
        listener: a socket that listens.
        service: whoever serves them.
        last_file: a connection with this file number or a higher one is closed. The system gives the lowest number that
            is free, so that a high one tells of many open files, whatever they are.
        tls: what encrypts them, if anything does.
        tls_rate: how many are accepted in a second where TLS is begun with them; the others wait in the listener's backlog.
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
        self._tls = None if tls is None else BeginningTls(service, tls)
        self._loop = asyncio.get_running_loop()
        # While the loop is held up, no more come together than are accepted in a turn.
        self._bucket = TokenBucket(tls_rate, _AT_ONCE, self._loop.time())
        self._limit = LogLimit(self._loop.time(), burst=1)
        self._pause: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[object]] = set()
        listener.setblocking(False)

    def start(self) -> None:
        """Accept from now on, unless it is over."""
        if self._listener.fileno() >= 0:
            self._resume()

    def leave(self) -> None:
        """Accept no more, and close the listener; those who have begun go on."""
        if self._listener.fileno() < 0:
            return
        if self._pause is None:
            self._loop.remove_reader(self._listener)
        else:
            self._pause.cancel()
        self._listener.close()

    async def aclose(self) -> None:
        """The same, and what was accepted has its protocol then."""
        self.leave()
        if self._tls is not None:
            await self._tls.aclose()
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
                self._bucket.take(1.0, self._loop.time())
            self._begin(accepted, address)

    def _begin(self, accepted: socket.socket, address: object) -> None:
        accepted.setblocking(False)
        protocol = self._service.accept(accepted, address)
        if self._tls is not None:
            self._tls.begin(accepted, protocol, address)
            return
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: protocol, accepted)
        )
        self._beginning.add(task)
        task.add_done_callback(partial(self._begun, accepted))

    def _begun(self, accepted: socket.socket, task: asyncio.Task[object]) -> None:
        self._beginning.discard(task)
        if task.cancelled():
            accepted.close()  # a task that has not begun has given it to nobody
        elif (error := task.exception()) is not None:
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
