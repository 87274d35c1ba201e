"""Runs a command and keeps what it wrote, within bounds."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import orjson

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
_SIGNAL_BASE: Final = 128

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

    SIGINT and SIGTERM are passed on to it. What processes that it leaves behind write is not waited for.
    """
    stdout, stderr = Output.empty(limit), Output.empty(limit)
    start = time.monotonic()
    with _passing_signals_on() as child:
        try:
            process = subprocess.Popen(  # noqa: S603 - to run what the caller names is the purpose
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            exit_code, complaint = _not_started(command[0], error)
            stderr.add(complaint.encode("utf-8", "replace"))
        else:
            child.started(process)
            _collect(process, stdout, stderr)
            status = process.wait()
            exit_code = status if status >= 0 else _SIGNAL_BASE - status
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


def _collect(process: subprocess.Popen[bytes], stdout: Output, stderr: Output) -> None:
    """Read both streams until they end, or the process has."""
    assert process.stdout is not None
    assert process.stderr is not None
    alive, ending = os.pipe()
    waiter = threading.Thread(target=_close_after, args=(process, ending))
    waiter.start()
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        selector.register(alive, selectors.EVENT_READ)
        for stream, output in ((process.stdout, stdout), (process.stderr, stderr)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, output)
        ended = False
        while not ended and len(selector.get_map()) > 1:
            # Looked up before the reading: what the process wrote before its end is then in the pipes.
            ready = selector.select()
            ended = any(key.fd == alive for key, _ in ready)
            for key in list(selector.get_map().values()):
                if key.fd != alive and _read(key.fd, key.data) == 0:
                    selector.unregister(key.fileobj)
    waiter.join()
    os.close(alive)


def _read(descriptor: int, output: Output) -> int | None:
    """Empty a pipe; 0 at its end, ``None`` when nothing is there."""
    try:
        chunk = os.read(descriptor, _PIPE_BYTES)
    except BlockingIOError:
        return None
    output.add(chunk)
    return len(chunk)


def _close_after(process: subprocess.Popen[bytes], descriptor: int) -> None:
    process.wait()
    os.close(descriptor)


class _SignalRelay:
    """Passes SIGINT and SIGTERM on to a child, also those that come just before it starts."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def started(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        elif number != signal.SIGINT or not _in_foreground():
            self._process.send_signal(number)


@contextlib.contextmanager
def _passing_signals_on() -> Iterator[_SignalRelay]:
    relay = _SignalRelay()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What the caller has this process ignore (nohup, a shell's &), the child inherits as ignored.
    caught = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in caught:
        signal.signal(number, relay)
    try:
        yield relay
    finally:
        for number, old in caught.items():
            signal.signal(number, old)


def _in_foreground() -> bool:
    """Whether a Ctrl-C at the terminal goes to this process's whole group, so that the child has it too."""
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
