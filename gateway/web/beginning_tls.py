"""Connections that are to begin with TLS: each waits for its first byte and for its turn, and then agrees on TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from gateway.web.tls import ServerTls, cause_of

log = logging.getLogger(__name__)

_TLS_SECONDS: Final = 10.0
"""How long a client may be silent before it begins with TLS, and how long it may then take to agree on it."""
_FAREWELL_SECONDS: Final = 5.0
"""How long it may take what is written before TLS ends: as long as the answer to a close frame."""

_AT_ONCE: Final = 8
"""Handshakes that begin in one turn of the event loop, a third of a millisecond each: of a crowd that begins in the same
moment the others wait, and those who are here are served in between."""
_MOST: Final = 500
"""Handshakes of TLS at a time, each with a hundred KB. All their clients could go on in the same moment, and each then takes a
third of a millisecond in one turn of the event loop."""

P = TypeVar("P", bound=asyncio.Protocol)
P_contra = TypeVar("P_contra", bound=asyncio.Protocol, contravariant=True)


class Service(Protocol[P_contra]):
    """Serves the connections of a port that speaks TLS."""

    def tls_turn(self, address: object) -> float | None:
        """In how many seconds TLS may be begun with who comes from this address; ``None``: not at all."""

    def failed(self, protocol: P_contra, address: object, cause: str, *, begun: bool) -> None:
        """The client and we have not agreed on TLS; the connection is over. ``begun``: that has cost something."""


@dataclass(eq=False, slots=True)
class _Silent(Generic[P]):
    accepted: socket.socket
    protocol: P
    address: object
    timer: asyncio.TimerHandle | None = None


class BeginningTls(Generic[P]):
    """Begins TLS with accepted connections. A client speaks first, so one that says nothing costs no more than its socket.

    Args:
        service: whoever serves them.
        tls: what encrypts them.
    """

    def __init__(self, service: Service[P], tls: ServerTls) -> None:
        self._service = service
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Silent[P], None] = {}
        self._due: deque[_Silent[P]] = deque()
        self._next: asyncio.Handle | None = None
        # In the order in which they began.
        self._beginning: dict[asyncio.Task[object], _Silent[P]] = {}

    async def aclose(self) -> None:
        """Begin with no more, and end what has not agreed on TLS."""
        if self._next is not None:
            self._next.cancel()
        self._due.clear()
        for each in list(self._waiting):
            self._end(each)
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def begin(self, accepted: socket.socket, protocol: P, address: object) -> None:
        """Agree on TLS with a client as soon as it begins with that."""
        it = _Silent(accepted, protocol, address)
        self._waiting[it] = None
        self._loop.add_reader(accepted, self._hear, it)
        it.timer = self._loop.call_later(_TLS_SECONDS, self._fail, it, "overdue")

    def _hear(self, it: _Silent[P]) -> None:
        try:
            speaks = bool(it.accepted.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            speaks = False
        if not speaks:
            self._fail(it, "left")
            return
        seconds = self._service.tls_turn(it.address)
        if seconds is None:
            self._fail(it, "")
            return
        self._hear_no_more(it)
        if seconds:
            it.timer = self._loop.call_later(seconds, self._take_turn, it)
        else:
            self._take_turn(it)

    def _hear_no_more(self, it: _Silent[P]) -> None:
        self._loop.remove_reader(it.accepted)
        if it.timer is not None:
            it.timer.cancel()

    def _end(self, it: _Silent[P]) -> None:
        self._hear_no_more(it)
        self._waiting.pop(it, None)
        it.accepted.close()

    def _fail(self, it: _Silent[P], cause: str) -> None:
        self._end(it)
        self._service.failed(it.protocol, it.address, cause, begun=False)

    def _take_turn(self, it: _Silent[P]) -> None:
        self._due.append(it)
        if self._next is None:
            self._next = self._loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._due))):
            self._agree(self._due.popleft())
        self._next = self._loop.call_soon(self._begin_some) if self._due else None

    def _agree(self, it: _Silent[P]) -> None:
        del self._waiting[it]
        task: asyncio.Task[object] = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: it.protocol,
                it.accepted,
                ssl=self._tls.context,
                ssl_handshake_timeout=_TLS_SECONDS,
                ssl_shutdown_timeout=_FAREWELL_SECONDS,
            )
        )
        self._beginning[task] = it
        task.add_done_callback(partial(self._agreed, it.accepted))
        if len(self._beginning) > _MOST:
            self._end_oldest()

    def _end_oldest(self) -> None:
        task, it = next(iter(self._beginning.items()))
        if task.cancel():  # else it has just ended, and leaves by itself
            del self._beginning[task]
            self._service.failed(it.protocol, it.address, "crowded", begun=True)

    def _agreed(self, accepted: socket.socket, task: asyncio.Task[object]) -> None:
        it = self._beginning.pop(task, None)
        if task.cancelled() or it is None:
            accepted.close()  # a task that has not begun has given it to nobody
            return
        error = task.exception()
        if isinstance(error, OSError):
            self._service.failed(it.protocol, it.address, cause_of(error), begun=True)
        elif error is not None:
            log.error("connection_failed", exc_info=error)
