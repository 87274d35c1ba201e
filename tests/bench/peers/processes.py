"""Running a peer: its process, its port, and how to tell that it is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

from tests.bench.peers.installing import Missing
from tests.support.waiting import until

START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@contextlib.asynccontextmanager
async def running(
    *command: str, port: int | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program until the block ends.

    It is there when something listens on ``port``, or without one when it has said ``ready``.

    Raises:
        Missing: it ended instead.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if port is None else asyncio.subprocess.DEVNULL,
        env=os.environ | (environment or {}),
    )
    try:
        if port is None:
            assert process.stdout is not None
            async with asyncio.timeout(START_SECONDS):
                if await process.stdout.readline() != b"ready\n":
                    raise Missing(f"{command[0]} did not start")
        else:
            await until(lambda: process.returncode is not None or listens(port), START_SECONDS)
            if process.returncode is not None:
                raise Missing(f"{command[0]} ended with {process.returncode}")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def listens(port: int) -> bool:
    """Whether something on this machine takes connections at ``port``."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
