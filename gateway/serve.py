"""Running a node in this process until it is told to end; also as one of a supervisor's workers.

A worker is ``python -m gateway.serve <number> [<file number>]``; the second is that of the socket on which clients connect, where
the supervisor hands one over. Standard input is a pipe that brings the settings, pickled, and
stays open while the worker shall serve: when it is closed, by a supervisor that wants it to leave or that has died,
the worker drains. On standard output it says how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway import logs
from gateway.settings import Settings, UsageError
from gateway.web import open_files
from publisher.errors import InvalidURL

if TYPE_CHECKING:
    from gateway.app import Addresses, Gateway

T = TypeVar("T")

log = logging.getLogger("gateway.serve")  # in a worker this module is `__main__`

_COLLECTIONS: Final = (10_000, 50, 1_000)
"""Allocations before the youngest objects are looked through, and times that before the older ones are."""

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

LISTENING: Final = b"listening\n"
READY: Final = b"ready\n"
"""What a worker says on standard output."""

_STDIN: Final = 0
_STDOUT: Final = 1
_ANYTHING: Final = 1024


def run(node: Coroutine[Any, Any, T]) -> T:
    """Run what serves a node, or a load of clients, in a process that is prepared for tens of thousands of connections."""
    open_files.raise_limit()
    _collect_seldom()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(node)


def leave_no_core() -> None:
    """Let no crash of this process, or of one that it starts, write its memory to disk, and with it every secret.

    Only the soft limit is changed: whoever wants a core dump can raise it again (prlimit(1)).
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def on_signals(told: asyncio.Event, again: Callable[[signal.Signals], None] | None = None) -> None:
    """Set ``told`` at the first SIGTERM, SIGINT or SIGHUP (a closed terminal).

    Args:
        told: what to set.
        again: called with every further one; without it, a second one ends the process at once.
    """
    loop = asyncio.get_running_loop()

    def tell(received: signal.Signals) -> None:
        log.info("signal_received signal=%s a_second_one=ends_at_once", received.name)
        told.set()
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
            if again is not None:
                loop.add_signal_handler(number, again, number)
            else:
                signal.signal(number, signal.SIG_DFL)

    for number in _END_SIGNALS:
        loop.add_signal_handler(number, tell, number)


async def run_node(
    settings: Settings,
    told: asyncio.Event,
    listening: Callable[[Addresses], None],
    ready: Callable[[Addresses], None],
    worker: int | None = None,
    passed: socket.socket | None = None,
) -> None:
    """Serve until ``told``, then drain.

    Args:
        settings: complete.
        told: set when the node shall leave.
        listening: called once, when it listens.
        ready: called once, when it first takes connections, unless it shall leave before.
        worker: the worker's number, if the process is one.
        passed: a socket on which clients connect, if another process holds one.

    Raises:
        UsageError: the audit log cannot be written, the key, a certificate or Redis's URL cannot be used, or a port is not to be had.
    """
    from gateway.api.keys import BadApiKeys  # noqa: PLC0415
    from gateway.app import Gateway  # noqa: PLC0415 - `gateway --help` stays quick
    from gateway.web.keys import BadKey  # noqa: PLC0415
    from gateway.web.server import CannotListen  # noqa: PLC0415
    from gateway.web.tls import BadCertificate  # noqa: PLC0415

    try:
        gateway = Gateway(settings, passed, told.set)
    except (BadKey, BadCertificate, InvalidURL) as error:
        raise UsageError(str(error)) from None
    # A developer opens fewer than any limit has room for, and should not read of it first.
    if gateway.capacity.connections < settings.max_connections and not settings.development:
        log.warning(
            "files_too_few open_files=%d connections_limit=%d max_connections=%d",
            gateway.capacity.files,
            gateway.capacity.connections,
            settings.max_connections,
        )
    with _audited(gateway, settings.audit_log, worker):
        try:
            addresses = await gateway.start()
            listening(addresses)
            await _first(gateway.until_ready(), told.wait())
            if not told.is_set():
                ready(addresses)
            await told.wait()
        except (BadApiKeys, BadCertificate, CannotListen) as error:
            raise UsageError(str(error)) from None
        finally:
            await gateway.stop()


@contextlib.contextmanager
def _audited(gateway: Gateway, where: str | None, worker: int | None) -> Iterator[None]:
    """Write the node's audit log, if there is a place for it, until the block ends."""
    if where is None:
        yield
        return
    from gateway.audit_log import audit_log  # noqa: PLC0415 - for those who want it

    def lost() -> None:
        gateway.stats.audit_dropped += 1

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(audit_log(where, gateway.node_id, worker, lost))
        except OSError as error:
            raise UsageError(f"GATEWAY_AUDIT_LOG: {where}: {error.strerror}") from None
        yield


async def _first(*alternatives: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them is done, and end the others."""
    tasks = [asyncio.ensure_future(each) for each in alternatives]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _collect_seldom() -> None:
    """Look for cyclic garbage less often than the interpreter would.

    Tens of thousands of connections that live for hours are no garbage, and looking through them again and again
    took a quarter of the time of a storm of handshakes.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


# -- as a worker --------------------------------------------------------------------------------


def main() -> None:
    """Be a worker; exits with 2 for a mistake in the configuration."""
    number = int(sys.argv[1])
    passed = socket.socket(fileno=int(sys.argv[2])) if sys.argv[2:] else None
    try:
        settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - our parent's own
    except EOFError:
        sys.exit("a worker is started by `gateway serve --workers`")
    logs.configure(settings.log_level, settings.log_format, number)
    try:
        sys.exit(run(_work(settings, number, passed)))
    except UsageError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


async def _work(settings: Settings, number: int, passed: socket.socket | None) -> int:
    # A closed pipe is not counted as a signal. Service managers send theirs to the supervisor and the
    # workers alike; a worker that had been told both ways by signals would take the second for haste.
    told = asyncio.Event()
    on_signals(told)
    loop = asyncio.get_running_loop()

    def released() -> None:
        if not os.read(_STDIN, _ANYTHING):
            loop.remove_reader(_STDIN)
            told.set()

    loop.add_reader(_STDIN, released)
    await run_node(
        settings,
        told,
        lambda _addresses: _report(LISTENING),
        lambda _addresses: _report(READY),
        number,
        passed,
    )
    return 0


def _report(progress: bytes) -> None:
    # A supervisor that has died hears nothing; the other pipe tells of that.
    with contextlib.suppress(BrokenPipeError):
        os.write(_STDOUT, progress)


if __name__ == "__main__":
    main()
