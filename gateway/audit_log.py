"""Where the audit log goes: a file, standard output or standard error, one JSON object a line, written by a thread.

What is written is decided in ``node/audit.py``. A node never waits for a disk: of what comes while 10,000 lines wait, nothing is kept.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import sys
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from typing import IO, Any, Final

from gateway.logs import LineFormatter
from gateway.node import audit

log = logging.getLogger(__name__)

_STREAMS: Final = ("stdout", "stderr")
_WAITING: Final = 10_000
_STOP_SECONDS: Final = 5.0
_ONLY_OURS: Final = 0o600


@contextlib.contextmanager
def audit_log(
    where: str, node: str, worker: int | None, lost: Callable[[], None]
) -> Iterator[None]:
    """Write what the node tells (``node/audit.py``) until the block ends.

    Args:
        where: ``stdout``, ``stderr`` or a file's path.
        node: the node's id, which each line names.
        worker: its number, where several workers write.
        lost: told of each line that is not written.

    Raises:
        OSError: the file cannot be opened.
    """
    target: logging.Handler = (
        _Stream(getattr(sys, where), lost) if where in _STREAMS else _File(where, lost)
    )
    target.setFormatter(_Lines(node, worker))
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler, writer = _Waiting(lines, lost), _Writer(lines, target)
    writer.start()
    audit.log.addHandler(handler)
    audit.log.setLevel(logging.INFO)
    audit.log.disabled = False
    try:
        yield
    finally:
        audit.log.disabled = True
        audit.log.removeHandler(handler)
        writer.stop()
        target.close()


def unwritable(where: str) -> str | None:
    """Why the log cannot go to this place, as far as can be told without a trace there."""
    path = Path(where)
    if where in _STREAMS:
        return None
    if path.is_dir():
        return os.strerror(errno.EISDIR)
    if not path.parent.is_dir():
        return os.strerror(errno.ENOENT)
    there, right = (path, os.W_OK) if path.exists() else (path.parent, os.W_OK | os.X_OK)
    return None if os.access(there, right) else os.strerror(errno.EACCES)


class _Lines(LineFormatter):
    """A record's time, event, node and fields, in one line of JSON."""

    def __init__(self, node: str, worker: int | None) -> None:
        super().__init__(json.dumps, worker)
        self._of_node = {"node": node}

    def head(self, record: logging.LogRecord) -> dict[str, Any]:
        """What each line begins with."""
        return {"time": self.formatTime(record), **self._of_node}


class _Waiting(QueueHandler):
    """Takes records for the thread, as many as there is room for."""

    def __init__(self, lines: queue.SimpleQueue[Any], lost: Callable[[], None]) -> None:
        super().__init__(lines)
        self._lines = lines
        self._lost = lost

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record itself: it holds plain values only, and its fields are read from it later."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Keep it, or count it."""
        if self._lines.qsize() < _WAITING:
            self._lines.put(record)
        else:
            self._lost()


class _Writer(QueueListener):
    """The thread."""

    def stop(self) -> None:
        """Wait until all is written, but for no disk that hangs."""
        thread: Any = self._thread
        self.enqueue_sentinel()
        thread.join(_STOP_SECONDS)


class _Telling:
    """What a handler does with a line that it cannot write: it counts it, and tells the first of several."""

    _lost: Callable[[], None]
    _failing = False

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - of logging
        """One was not written."""
        self._lost()
        if not self._failing:
            self._failing = True
            reason = sys.exc_info()[1]
            log.error("audit_unwritten reason=%r", str(reason))


class _Stream(_Telling, logging.StreamHandler[IO[str]]):
    def __init__(self, stream: IO[str], lost: Callable[[], None]) -> None:
        super().__init__(stream)
        self._lost = lost


class _File(_Telling, WatchedFileHandler):
    """A file that others may move away (logrotate): then it is made anew. Only the user of this process can read it."""

    def __init__(self, path: str, lost: Callable[[], None]) -> None:
        self._lost = lost
        super().__init__(path, encoding="utf-8")

    def _open(self) -> Any:
        return open(
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            opener=lambda path, flags: os.open(path, flags, _ONLY_OURS),
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write it. Whatever goes wrong must not end the thread."""
        try:
            super().emit(record)
        except OSError:  # while it is made anew
            self._let_go()
            self.handleError(record)

    def _let_go(self) -> None:
        """Close the file whatever becomes of what it still had to write; the next line opens it anew."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
