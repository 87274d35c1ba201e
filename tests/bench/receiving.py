"""The receiver as the benchmark drives it: ``receiver.c``, or ``receiver.py`` without a compiler."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.programs import HERE, built

MARK = '"sent":'
"""Stands before the time a message was sent at, in nanoseconds since 1970."""

_JOIN_SECONDS = 120.0
_REPORT_SECONDS = 300.0
_LEAVE_SECONDS = 20.0
_IDLE_MS = 3_000


class ReceiverError(Exception):
    """The receiver did not do what it was asked for; the message says what."""


class Receiver:
    """Sockets that have joined; ``join_seconds`` is the time it took all of them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.join_seconds = 0.0
        self.sockets = 0

    async def join(self, expected: int) -> None:
        """Wait until all sockets have joined.

        Raises:
            ReceiverError: some were refused.
        """
        joined = await self._next("joined", _JOIN_SECONDS)
        if joined["sockets"] != expected:
            raise ReceiverError(f"only {joined['sockets']} of {expected} sockets joined")
        self.sockets = joined["sockets"]
        self.join_seconds = joined["seconds"]

    async def reset(self) -> None:
        """Count from here."""
        await self._say("reset")
        await self._next("reset", _REPORT_SECONDS)

    async def report(self, count: int, idle_ms: int = _IDLE_MS) -> dict[str, Any]:
        """Wait for ``count`` messages in all, or ``idle_ms`` without one, and tell what has come.

        Raises:
            ReceiverError: fewer than ``count`` messages came, or a socket was closed.
        """
        await self._say(f"report {count} {idle_ms}")
        report = await self._next("report", _REPORT_SECONDS)
        if report["messages"] < count or report["closed"]:
            raise ReceiverError(f"expected {count} messages, and no socket closed: {report}")
        return report

    async def leave(self) -> None:
        """Close all sockets."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.close()
        async with asyncio.timeout(_LEAVE_SECONDS):
            await self._process.wait()

    async def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def _next(self, event: str, within: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            line = await self._process.stdout.readline()
        if not line:
            raise ReceiverError(f"the receiver ended with {await self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        if said["event"] != event:
            raise ReceiverError(f"expected {event}, not {said}")
        return said


@contextlib.asynccontextmanager
async def receiving(
    port: int,
    targets: Sequence[str],
    *,
    greetings: int,
    window: int = 250,
    mark: str = MARK,
    deflate: bool = False,
) -> AsyncIterator[Receiver]:
    """Open a socket for each of ``targets``, as the head of ``receiver.c`` says, until the block ends.

    Args:
        port: of 127.0.0.1.
        targets: path and frames, with a tab between them.
        greetings: frames from the server after which a socket has joined.
        window: how many may be on their way there at once.
        mark: what stands before the time of sending in a message.
        deflate: offer permessage-deflate.
    """
    program = built("receiver")
    command = [str(program)] if program else [sys.executable, str(HERE / "receiver.py")]
    options = ["deflate"] if deflate else []
    descriptor, name = tempfile.mkstemp(prefix="targets-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("".join(f"{target}\n" for target in targets))
    process = await asyncio.create_subprocess_exec(
        *(*command, str(port), name, str(greetings), str(window), mark, *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    receiver = Receiver(process)
    try:
        await receiver.join(len(targets))
        yield receiver
        await receiver.leave()
    finally:
        Path(name).unlink()  # noqa: ASYNC240 - a moment, after the load
        if process.returncode is None:
            process.kill()
            await process.wait()
