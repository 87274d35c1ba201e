"""Accepting connections: a few in a turn of the event loop, and none while the process has no files for them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.core.log_limit import LogLimit

log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Connections in one turn. Of a crowd the others wait in the listener's backlog, and those who are here are served."""
_PAUSE_SECONDS: Final = 0.1
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """Accepts the connections of a listener.

    The event loops would do that too. But uvloop closes its listener, or the connections, without a word when the
    process has no more files, and asyncio logs each try with a traceback; both accept the whole backlog at once.

    Args:
        listener: a socket that listens.
        protocol: makes what serves a connection, of its socket.
        last_file: a connection with this file number or a higher one is closed. The system gives the lowest number that
            is free, so that a high one tells of many open files, whatever they are.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[socket.socket], asyncio.Protocol],
        last_file: int,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._last_file = last_file
        self._loop = asyncio.get_running_loop()
        self._limit = LogLimit(self._loop.time(), burst=1)
        self._pause: asyncio.TimerHandle | None = None
        self._beginning: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._resume()

    async def aclose(self) -> None:
        """Accept no more, and close the listener; what was accepted has its protocol then."""
        if self._pause is None:
            self._loop.remove_reader(self._listener)
        else:
            self._pause.cancel()
        self._listener.close()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait(error.errno)
                    return
                continue  # what had become of this connection meanwhile (accept(2))
            if accepted.fileno() >= self._last_file:
                accepted.close()
                self._wait(errno.EMFILE)
                return
            self._begin(accepted)

    def _begin(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(partial(self._protocol, accepted), accepted)
        )
        self._beginning.add(task)
        task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[object]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("connection_failed", exc_info=error)

    def _wait(self, number: int) -> None:
        """Leave the others in the backlog for a moment."""
        left_out = self._limit.admit("files_exhausted", self._loop.time())
        if left_out is not None:
            port = self._listener.getsockname()[1]
            log.error("files_exhausted port=%s reason=%r", port, os.strerror(number))
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
