"""A peer that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.bench.measuring import with_children
from tests.bench.servers import Message


@dataclass(slots=True)
class Peer:
    """Implements ``servers.Server``: every socket opens ``path_and_frames``."""

    name: str
    version: str
    port: int
    greetings: int
    path_and_frames: str
    process: asyncio.subprocess.Process
    send: Callable[[Sequence[Message]], Awaitable[None]]
    share: float = 1.0
    peer: bool = True

    @property
    def pids(self) -> list[int]:
        return with_children(self.process.pid)

    def targets(self, count: int) -> list[str]:
        return [self.path_and_frames] * count

    async def publish(self, messages: Sequence[Message]) -> None:
        await self.send(messages)
