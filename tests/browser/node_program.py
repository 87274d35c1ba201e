"""Programs of tests/js: lines of JSON go in, lines of JSON come out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

PATIENCE = 20.0
"""Seconds that an answer, or an event of a client, may take."""

_STOP_SECONDS = 10.0
# A line holds a whole message.
_LINE_LIMIT = 4 * 1024 * 1024


class NodeProgram:
    """A running program. Whatever it says is kept in ``said``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, node: str, program: Path, *arguments: str) -> AsyncIterator[NodeProgram]:
        """Run ``program`` until the block ends."""
        process = await asyncio.create_subprocess_exec(
            *(node, str(program), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        running = cls(process)
        try:
            yield running
        except BaseException as error:
            error.add_note(f"{program.name} has said: {running.said[-20:]}")
            raise
        finally:
            await running.end()

    async def end(self) -> None:
        """End it, as closing a page ends its client."""
        process = self._process
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def tell(self, do: str, **details: Any) -> None:
        """Give it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program has ended with {await self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        self.said.append(said)
        return said

    # -- clients ------------------------------------------------------------------------------

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of this name; others are passed over."""
        while (said := await self.line())["event"] != name:
            pass
        return said

    async def message(self, kind: str) -> dict[str, Any]:
        """The next message of this type, as it came over the wire."""
        while (message := (await self.event("message"))["message"])["type"] != kind:
            pass
        return dict(message)

    async def subscribed(self, channels: Iterable[str]) -> None:
        """Wait until it has subscribed to all of these."""
        waiting = set(channels)
        while waiting:
            waiting.discard((await self.message("subscribed"))["channel"])

    async def data_up_to(self, id: int) -> list[dict[str, Any]]:
        """All data messages that it has got, when the one with this id is among them.

        The answer to a heartbeat comes behind everything that was sent before it.
        """
        while not any(message.get("id") == id for message in self._data()):
            await self.line()
        await self.tell("heartbeat")
        await self.message("heartbeat")
        return self._data()

    def _data(self) -> list[dict[str, Any]]:
        messages = [said["message"] for said in self.said if said["event"] == "message"]
        return [message for message in messages if "data" in message]
