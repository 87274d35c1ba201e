"""Programs of tests/js: lines of JSON go in, lines of JSON come out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from tests.support.line_program import LineProgram


class NodeProgram(LineProgram):
    """A running program. Whatever it says is kept in ``said``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.said: list[dict[str, Any]] = []

    async def tell(self, do: str, **details: Any) -> None:
        """Give it a command."""
        await self.write_line(json.dumps({"do": do, **details}))

    async def line(self) -> dict[str, Any]:
        """The next thing it says."""
        said: dict[str, Any] = json.loads(await self.read_line())
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
