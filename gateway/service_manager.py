"""The process and the service manager that has started it: systemd, or whatever speaks its protocol.

It hands over a socket that listens (sd_listen_fds(3)), and hears that the process is ready, alive or leaving (sd_notify(3)).
Without one all of this does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, MutableMapping
from typing import Final

from gateway.settings import UsageError

log = logging.getLogger(__name__)

_FIRST_PASSED: Final = 3
"""The file number of the first socket that is handed over (``SD_LISTEN_FDS_START``)."""

_MICROSECONDS: Final = 1_000_000
_BUSY_SECONDS: Final = 0.05


class ServiceManager:
    """What is told to the service manager.

    Args:
        address: of the datagram socket that it listens on, ``@`` first for an abstract one; ``None`` when it wants to hear nothing.
        watchdog_seconds: it ends the process when it has heard nothing for so long; ``None`` when it does not watch.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = None if address is None else address.replace("@", "\0", 1)
        self._watchdog_seconds = watchdog_seconds
        self._failed = False
        self._ready = asyncio.Event()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> ServiceManager:
        """The one that the variables name. They are taken out: processes that this one starts have nothing to tell it."""
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(pid)) == str(pid) and microseconds.isdecimal()
        return cls(address or None, int(microseconds) / _MICROSECONDS if watched else None)

    @contextlib.asynccontextmanager
    async def attended(self, told: asyncio.Event) -> AsyncIterator[None]:
        """Until the block ends, say how it stands: ready, again and again that the event loop runs, and that ``told`` is set."""
        tasks = [asyncio.create_task(each) for each in (self._live(), self._end(told))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> None:
        """Connections are taken from now on."""
        self._ready.set()

    async def _live(self) -> None:
        await self._tell("STATUS=not ready: waiting for Redis, see /readyz")
        await self._ready.wait()
        await self._tell("READY=1\nSTATUS=takes connections")
        # It is watched from then on. systemd.service(5) asks for a word in half of the time.
        while self._watchdog_seconds is not None:
            await self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 3)

    async def _end(self, told: asyncio.Event) -> None:
        await told.wait()
        await self._tell("STOPPING=1\nSTATUS=drains")

    async def _tell(self, text: str) -> None:
        if self._address is None:
            return
        try:
            while not self._sent(text.encode()):  # noqa: ASYNC110 - nobody tells of room
                await asyncio.sleep(_BUSY_SECONDS)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("service_manager_deaf told=%r error=%s", text, error)

    def _sent(self, data: bytes) -> bool:
        """Whether the service manager had room for it; a system that starts many services may have none for a moment."""
        assert self._address is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            try:
                way.sendto(data, self._address)
            except BlockingIOError:
                return False
        return True


def passed_socket(environ: MutableMapping[str, str], pid: int) -> socket.socket | None:
    """The socket on which clients connect, if the service manager holds it; its variables are taken out.

    Raises:
        UsageError: what was handed over is not one socket that listens on a port.
    """
    count = environ.pop("LISTEN_FDS", "")
    meant_for = environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(pid) or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise UsageError(
            f"the service manager hands over {count} sockets; a gateway takes one, for its clients (one ListenStream=)"
        )
    try:
        passed = socket.socket(fileno=_FIRST_PASSED)
        listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UsageError(
            f"the socket that the service manager hands over cannot be used: {error}"
        ) from None
    if not listens or passed.family not in {socket.AF_INET, socket.AF_INET6}:
        passed.close()
        raise UsageError(
            "the socket that the service manager hands over must listen on a TCP port (ListenStream= with a port, Accept=no)"
        )
    passed.set_inheritable(False)
    return passed
