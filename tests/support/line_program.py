"""Programs that take lines on standard input and answer with lines on standard output."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self

PATIENCE = 20.0
"""Seconds that a line may take."""

_STOP_SECONDS = 10.0
# A line holds a whole message.
_LINE_LIMIT = 4 * 1024 * 1024


class LineProgram:
    """A running program. Whatever it writes is kept in ``lines``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, *command: str) -> AsyncIterator[Self]:
        """Run a program with its arguments until the block ends."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        running = cls(process)
        try:
            yield running
        except BaseException as error:
            error.add_note(f"{command} has written: {[line[:300] for line in running.lines[-20:]]}")
            raise
        finally:
            await running.end()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end_input(self) -> None:
        """Write no more."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def end(self) -> None:
        """End it, as closing a page ends its client."""
        self.end_input()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs; negative if a signal has ended it."""
        return self._process.returncode

    async def write_line(self, text: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def read_line(self) -> str:
        """The next line that it writes."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program has ended with {await self._process.wait()}")
        text = line.decode().removesuffix("\n")
        self.lines.append(text)
        return text
