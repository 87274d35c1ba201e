"""Runs a command and keeps what it wrote, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import orjson

from publisher.command_line import SIGNAL_BASE
from publisher.contract.secret_values import without_secrets

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127

# At least what a pipe holds (64 KiB, on some machines 1 MiB), so that one read empties it.
_PIPE_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Output:
    """The beginning of a stream, up to ``limit`` bytes, and how long all of it was."""

    limit: int
    head: bytearray
    size: int = 0

    @classmethod
    def empty(cls, limit: int) -> Output:
        """A stream of which nothing has been read."""
        return cls(limit, bytearray())

    def add(self, chunk: bytes) -> None:
        """Take in what was read; what is over the limit is only counted."""
        self.size += len(chunk)
        self.head += chunk[: self.limit - len(self.head)]

    def text(self, budget: int) -> str:
        """The stream as text whose JSON takes at most ``budget`` bytes; a mark at the end tells of a cut."""
        # A character cut in two at the limit becomes a replacement character just before the mark.
        text = self.head.decode("utf-8", "replace")
        if self.size == len(self.head) and json_size(text) <= budget:
            return text
        mark = f"\n[output truncated: it was {self.size} bytes long]\n"
        return _longest(text, budget - json_size(mark)) + mark


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of a command. ``exit_code`` as a shell tells it, ``duration`` in ms."""

    stdout: Output
    stderr: Output
    exit_code: int
    duration: int

    def texts(self, budget: int) -> tuple[str, str]:
        """``stdout`` and ``stderr`` whose JSON takes at most ``budget`` bytes together.

        Each may take half, and what the other leaves of its own.
        """
        half = budget // 2
        stderr = self.stderr.text(half)
        stdout = self.stdout.text(budget - json_size(stderr))
        if json_size(stdout) < half:
            stderr = self.stderr.text(budget - json_size(stdout))
        return stdout, stderr


def run(command: Sequence[str], limit: int) -> Execution:
    """Run ``command`` with this process's stdin to its end, keeping ``limit`` bytes of each stream.

    Of a command that cannot be started the reason is its stderr, and is told on this process's too.

    It has the environment of this process without the secrets. SIGINT and SIGTERM are passed on to it. What processes that
    it leaves behind write is not waited for.
    """
    stdout, stderr = Output.empty(limit), Output.empty(limit)
    start = time.monotonic()
    try:
        exit_code = asyncio.run(_execute(command, Child({1: stdout, 2: stderr})))
    except OSError as error:
        exit_code, complaint = _not_started(command[0], error)
        stderr.add(complaint.encode("utf-8", "replace"))
        sys.stderr.write(complaint)
    return Execution(stdout, stderr, exit_code, round((time.monotonic() - start) * 1000))


def json_size(text: str) -> int:
    """How many bytes ``text`` takes in JSON, without its quotes."""
    return len(orjson.dumps(text)) - 2


def _longest(text: str, budget: int) -> str:
    """The longest beginning of ``text`` whose JSON takes at most ``budget`` bytes."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if json_size(text[:middle]) <= budget:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def _not_started(program: str, error: OSError) -> tuple[int, str]:
    if isinstance(error, FileNotFoundError):
        return NOT_FOUND, f"publisher: {program}: command not found\n"
    return NOT_EXECUTABLE, f"publisher: {program}: {error.strerror}\n"


class Child(asyncio.SubprocessProtocol):
    """The running command: what it writes, the signals that it is sent, and its end.

    Args:
        outputs: where to keep what comes, by file descriptor.
    """

    def __init__(self, outputs: Mapping[int, Output]) -> None:
        self._outputs = outputs
        self._transport: asyncio.SubprocessTransport | None = None
        self._early: list[signal.Signals] = []
        self._ended = asyncio.Event()

    async def status(self) -> int:
        """Its exit status, as ``subprocess`` has it, when it has ended and all that it wrote is kept."""
        await self._ended.wait()
        assert self._transport is not None
        for descriptor, output in self._outputs.items():
            pipe = self._transport.get_pipe_transport(descriptor)
            # Another process may keep the pipe open, so its end is not waited for.
            if pipe is not None and not pipe.is_closing():
                with contextlib.suppress(BlockingIOError):
                    output.add(os.read(pipe.get_extra_info("pipe").fileno(), _PIPE_BYTES))
        status = self._transport.get_returncode()
        assert status is not None
        self._transport.close()
        return status

    def relay(self, number: signal.Signals) -> None:
        """Pass a signal on, also one that came before the command had started."""
        if self._transport is None:
            self._early.append(number)
        elif number != signal.SIGINT or not _in_foreground():
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(number)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has started."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        for number in self._early:
            self._transport.send_signal(number)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written."""
        self._outputs[fd].add(data)

    def process_exited(self) -> None:
        """It has ended."""
        self._ended.set()


async def _execute(command: Sequence[str], child: Child) -> int:
    """Run it, and return its exit code as a shell tells it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # What the caller has this process ignore (nohup, a shell's &), the child inherits as ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, child.relay, number)
    environment = without_secrets(os.environ)
    await loop.subprocess_exec(lambda: child, *command, stdin=None, env=environment)
    status = await child.status()
    return status if status >= 0 else SIGNAL_BASE - status


def _in_foreground() -> bool:
    """Whether a Ctrl-C at the terminal goes to this process's whole group, so that the child has it too."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
