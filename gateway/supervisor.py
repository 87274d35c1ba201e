"""Several nodes on one port: starts them, starts those again that end, and lets them drain at the end.

It serves nothing itself. It holds the ports, so that they stay ours while a worker is away, and one end
of a pipe to each worker, whose closing asks the worker to drain. The kernel closes it, too, when the
supervisor dies; so no worker is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gateway.core.timing import Backoff
from gateway.serve import LISTENING, READY
from gateway.settings import Settings, UsageError
from gateway.web.server import CannotListen, reserve
from publisher.contract.secret_values import without_secrets

log = logging.getLogger(__name__)

USAGE_ERROR: Final = 2
"""Exit status of a process that somebody has to configure differently; trying again is no use."""

LONGEST_PAUSE_SECONDS: Final = 10.0
_TRIES: Final = 5
_SOUND_SECONDS: Final = 30.0
"""A worker that has served for this long is not one that crashes again and again."""

_LAST_WORDS_SECONDS: Final = 10.0
"""A worker may take so much longer than its drain: for clients' last answers, and for Redis."""


class Restarts:
    """Decides when a worker that has ended is started again. Pure: no clock, no process.

    A worker that has served before is restarted for ever: its settings work, and the clients of its siblings must
    not pay for its fault. One that never came up ends the supervisor after a few tries, so that somebody sees it.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._has_served = False
        self._failed_starts = 0

    def pause_after(self, code: int, served_seconds: float | None) -> float | None:
        """Seconds until the worker is started again; ``None`` means never.

        Args:
            code: its exit status, as ``subprocess`` has it.
            served_seconds: how long it had listened; ``None`` when it had not come to that.
        """
        if served_seconds is not None:
            self._has_served = True
            if served_seconds >= _SOUND_SECONDS:
                self._backoff.reset()
        elif not self._has_served:
            self._failed_starts += 1
            if code == USAGE_ERROR or self._failed_starts == _TRIES:
                return None
        return self._backoff.next()


def exit_status(code: int) -> int:
    """The status as a shell would tell it: 128 and the signal's number for one that was killed."""
    return code if code >= 0 else 128 - code


class Supervisor:
    """Runs the workers.

    Args:
        told: set when all shall drain.
        clock: monotonic, in seconds.
        jitter: a number from 0 to 1.
        passed: the socket on which clients connect, if the service manager holds one; all workers then accept there.
    """

    def __init__(
        self,
        told: asyncio.Event,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        passed: socket.socket | None = None,
    ) -> None:
        self._told = told
        self._passed = passed
        self._clock = clock
        self._jitter = jitter
        self._processes: dict[int, Process] = {}
        self._first_listens = asyncio.Event()
        self._status = 0
        self._patience = 0.0
        self._killed_by: signal.Signals | None = None

    async def run(self, workers: Sequence[Settings], ready: Callable[[], None]) -> int:
        """Run a worker with each of these settings until told; returns the exit status of it all.

        Args:
            workers: settings with the ports that are held for them.
            ready: called once, when all of them take connections.
        """
        drain_seconds = workers[0].drain_delay_seconds + workers[0].drain_seconds
        self._patience = drain_seconds + _LAST_WORDS_SECONDS
        numbered = list(enumerate(workers, 1))
        unready = {number for number, _ in numbered}

        def note_ready(number: int) -> None:
            # Not when one that was started again is ready again.
            if number in unready:
                unready.remove(number)
                if not unready and not self._told.is_set():
                    ready()

        async with asyncio.TaskGroup() as group:
            group.create_task(self._release_when_told())
            # One goes ahead, so that a mistake in the configuration is said once.
            group.create_task(self._keep(*numbered[0], note_ready))
            await self._first_listens.wait()
            for number, settings in numbered[1:]:
                group.create_task(self._keep(number, settings, note_ready))
        return self._status if self._killed_by is None else exit_status(-self._killed_by)

    def kill(self, received: signal.Signals) -> None:
        """End all workers at once, which ends ``run``."""
        log.warning("workers_killed signal=%s", received.name)
        self._killed_by = received
        for process in self._processes.values():
            _kill(process)

    async def _release_when_told(self) -> None:
        await self._told.wait()
        self._first_listens.set()
        for process in self._processes.values():
            self._release(process)

    def _release(self, process: Process) -> None:
        """Let a worker drain; one that hangs is not waited for without end."""
        assert process.stdin is not None
        process.stdin.close()
        asyncio.get_running_loop().call_later(self._patience, _give_up, process)

    async def _keep(self, number: int, settings: Settings, ready: Callable[[int], None]) -> None:
        """Let this worker live, again and again."""
        restarts = Restarts(Backoff(self._jitter, LONGEST_PAUSE_SECONDS))
        while not self._told.is_set():
            code, served_seconds = await self._live(number, settings, ready)
            if self._told.is_set():
                # One that a signal met before it listened had nothing to bring to an end.
                if code and served_seconds is not None:
                    log.error("worker_ended worker=%d status=%d while=draining", number, code)
                    self._status = self._status or exit_status(code)
                return
            pause = restarts.pause_after(code, served_seconds)
            if pause is None:
                log.error("worker_unusable worker=%d status=%d all_workers=end", number, code)
                self._status = exit_status(code) or 1
                self._told.set()
                return
            # One that was told to end has drained, and is an operator's doing.
            level = logging.ERROR if code else logging.INFO
            log.log(level, "worker_ended worker=%d status=%d restart_in=%.2f", number, code, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._told.wait()

    async def _live(
        self, number: int, settings: Settings, ready: Callable[[int], None]
    ) -> tuple[int, float | None]:
        """One life of a worker: its exit status, and for how many seconds it listened, if it did."""
        try:
            process = await self._start(number, settings)
        except OSError as error:
            log.error("worker_unstartable worker=%d error=%s", number, error)  # noqa: TRY400
            return 1, None
        assert process.stdout is not None
        listens_since = None
        async for line in process.stdout:
            if line == LISTENING:
                listens_since = self._clock()
                self._first_listens.set()
            elif line == READY:
                ready(number)
        code = await process.wait()
        del self._processes[number]
        return code, None if listens_since is None else self._clock() - listens_since

    async def _start(self, number: int, settings: Settings) -> Process:
        files = () if self._passed is None else (self._passed.fileno(),)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *_search_path(), "-m", "gateway.serve", str(number)),
            *map(str, files),
            pass_fds=files,
            stdin=PIPE,
            stdout=PIPE,
            env=without_secrets(os.environ),
            # Ctrl-C at the terminal is for the supervisor, which then lets the workers drain.
            start_new_session=True,
        )
        log.info("worker_started worker=%d pid=%d", number, process.pid)
        self._processes[number] = process
        assert process.stdin is not None
        # Not as arguments or in the environment, which others can read, and not from a file that
        # somebody may have changed since: all workers run with the same settings at all times.
        process.stdin.write(pickle.dumps(settings))
        if self._killed_by is not None:
            _kill(process)
        elif self._told.is_set():
            self._release(process)
        return process


def _give_up(process: Process) -> None:
    if process.returncode is None:
        log.error("worker_hangs pid=%d killed=yes", process.pid)
        _kill(process)


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _search_path() -> list[str]:
    """Options that let a worker find the modules where this process has found them.

    ``-m`` puts the current folder first, in which a backend may have modules of any name, ``-P`` leaves it out.
    """
    return [] if {"", str(Path.cwd())} & set(sys.path) else ["-P"]


async def reserve_ports(
    settings: Settings, stack: contextlib.ExitStack, passed: socket.socket | None = None
) -> list[Settings]:
    """Hold one port for clients and an internal one for each worker, until the stack is closed.

    Args:
        settings: of all workers.
        stack: closed when no worker is left.
        passed: the socket on which clients connect, if the service manager holds one.

    Returns:
        the settings of each worker.

    Raises:
        UsageError: a port is not to be had; or the system does not let processes share one.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError(
            "this system does not let processes share a port: GATEWAY_WORKERS must be 1"
        )
    try:
        public = passed or await reserve(settings.host, settings.port, "port")
        stack.enter_context(public)
        api = None
        if settings.api_port is not None:
            held = await reserve(settings.api_host, settings.api_port, "api_port")
            api = stack.enter_context(held).getsockname()[1]
        internal = [
            stack.enter_context(await _reserve_internal(settings, index))
            for index in range(settings.workers)
        ]
    except CannotListen as error:
        raise UsageError(str(error)) from None
    ports = [each.getsockname()[1] for each in internal]
    log.info("workers_starting port=%d internal_ports=%s", public.getsockname()[1], ports)
    found = {"port": public.getsockname()[1], "api_port": api}
    return [settings.model_copy(update=found | {"internal_port": port}) for port in ports]


async def _reserve_internal(settings: Settings, index: int) -> socket.socket:
    port = settings.internal_port and settings.internal_port + index
    try:
        return await reserve(settings.internal_host, port, "internal_port")
    except CannotListen as error:
        if not (error.in_use and settings.may_choose_internal_port):
            raise
        return await reserve(settings.internal_host, 0, "internal_port")
