"""Writes what the node says of itself into Redis, from where operators read it (``publisher.nodes()``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.contract.node_report import NodeReport, encode
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

_REPORTS_PER_LEASE: Final = 3


class NodeReports:
    """Writes a report as often as the node renews its lease; it lasts as long as that.

    Args:
        report: what to write now.
        lease: of the node, in seconds.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        node: str,
        lease: float,
        report: Callable[[], NodeReport],
    ) -> None:
        self._pipeline = pipeline
        self._key = keys.node(node)
        self._lease = lease
        self._report = report

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.write()
            await asyncio.sleep(self._lease / _REPORTS_PER_LEASE)

    async def write(self) -> None:
        """Write once. A report that Redis does not take is left out: the next one is newer."""
        lifetime = round(self._lease * 1000)
        call = Call(("SET", self._key, encode(self._report()), "PX", lifetime))
        try:
            await self._pipeline.call(call)
        except Unavailable:
            return

    async def remove(self) -> None:
        """The node ends.

        Raises:
            Unavailable: Redis did not answer; the report runs out by itself.
        """
        await self._pipeline.call(Call(("DEL", self._key)))
