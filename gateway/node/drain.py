"""The end of a node: the balancer is told first, then connections are closed one after the other."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.core import closing
from gateway.node.hub import Hub
from gateway.node.ports import Clock

log = logging.getLogger(__name__)

_SLICE_SECONDS: Final = 0.05


_UNHURRIED_PER_SECOND: Final = 200
"""With few connections there is no herd to fear, and no reason to take the whole time."""


class Drain:
    """The end of a node's life.

    ``leaving``: the node is not ready, so that the balancer sends nobody new; who comes all the same is
    let in, because the balancer takes a moment to notice. ``closed``: nobody is let in.

    Args:
        delay: seconds for the balancer to notice.
        duration: seconds over which connections are closed, at most.
        farewell: seconds for the last of them to answer.
    """

    def __init__(
        self, hub: Hub, clock: Clock, delay: float, duration: float, farewell: float
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._delay = delay
        self._duration = duration
        self._farewell = farewell
        self.leaving = False
        self.closed = False

    async def run(self) -> None:
        """Wait for the balancer, close all connections with 1001, and wait until they are gone."""
        self.leaving = True
        log.info("drain_started connections=%d", len(self._hub.connections))
        await asyncio.sleep(self._delay)
        self.closed = True
        await self._close_all()
        deadline = self._clock() + self._farewell
        while self._hub.connections and self._clock() < deadline:  # noqa: ASYNC110 - each leaves by itself
            await asyncio.sleep(_SLICE_SECONDS)

    async def _close_all(self) -> None:
        waiting = list(self._hub.connections.values())
        duration = min(self._duration, len(waiting) / _UNHURRIED_PER_SECOND)
        slices = max(1, round(duration / _SLICE_SECONDS))
        for number in range(slices):
            for connection in waiting[number::slices]:
                self._hub.close(connection, closing.DRAINING)
            if number + 1 < slices:
                await asyncio.sleep(_SLICE_SECONDS)
