"""Leaving without hurting anybody: connections are closed one after the other, not all at once."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.core import closing
from gateway.node.hub import Hub

log = logging.getLogger(__name__)

_SLICE_SECONDS: Final = 0.05
_UNHURRIED_PER_SECOND: Final = 200
"""With few connections there is no herd to fear, and no reason to take the whole time."""


async def drain(hub: Hub, seconds: float) -> None:
    """Close all connections with 1001, evenly over at most ``seconds``."""
    waiting = list(hub.connections.values())
    if not waiting:
        return
    log.info("drain_started connections=%d", len(waiting))
    duration = min(seconds, len(waiting) / _UNHURRIED_PER_SECOND)
    slices = max(1, round(duration / _SLICE_SECONDS))
    for number in range(slices):
        for connection in waiting[number::slices]:
            hub.close(connection, closing.DRAINING)
        if number + 1 < slices:
            await asyncio.sleep(_SLICE_SECONDS)
