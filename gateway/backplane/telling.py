"""Tells other nodes what an operator asks, and answers them: over pub/sub, so nothing of it is kept."""

from __future__ import annotations

from publisher.contract import control
from publisher.contract.calls import Call
from publisher.contract.inspection import Inspection
from publisher.contract.keys import Keys
from publisher.transport.pipeline import Calls


class Telling:
    """Implements ``node.inquiries.Telling``."""

    def __init__(self, pipeline: Calls, keys: Keys) -> None:
        self._pipeline = pipeline
        self._keys = keys

    async def all(self, command: Inspection) -> None:
        """Tell all nodes."""
        await self._publish(self._keys.control, command)

    async def one(self, node: str, command: Inspection) -> None:
        """Tell one."""
        await self._publish(self._keys.answers(node), command)

    async def _publish(self, name: str, command: Inspection) -> None:
        await self._pipeline.call(Call(("PUBLISH", name, control.encode(command))))
