"""Failovers from a primary that ends or hangs, and what they may lose.

Replication is asynchronous: a primary that ends takes along what it has acknowledged and not sent on. And one that
is not told of its end, because it hung or because Sentinel tells it late, goes on taking writes until those who write have
noticed. Both are Redis's promise, not the gateway's (docs/delivery.md, "What Redis can still lose").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.trace import Interval
from tests.faults.world import World
from tests.support.redis_server import RedisServer

Promoted = Callable[[], Awaitable[None]]
"""Returns once a replica has taken over."""

UNREPLICATED_SECONDS: Final = 1.0
"""No replica is behind by more."""
NOTICED_SECONDS: Final = 2.5
"""Sentinel looks every second whether a replica has become the primary, publishers ask it every second, and a try of
theirs takes a second at most."""


def may_lose(w: World, since: float) -> None:
    """What Redis has acknowledged since then may be gone, up to a moment after the promotion, which is now.

    Only what the new primary's log does not have in the end (``Trace.kept``).
    """
    w.trace.losses.append(Interval(since, time.monotonic() + NOTICED_SECONDS))


async def killed(
    w: World, name: str, primary: RedisServer, promoted: Promoted, seconds: float
) -> None:
    """The primary ends without warning, and comes back ``seconds`` after the failover."""
    async with w.fault(name, *w.nodes) as fault:
        primary.kill()
        await promoted()
        may_lose(w, fault.begun_at - UNREPLICATED_SECONDS)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(primary.restart)


async def hangs(
    w: World,
    name: str,
    primary: RedisServer,
    promoted: Promoted,
    dice: random.Random,
    seconds: float,
) -> None:
    """The primary hangs, and goes on at the failover or ``seconds`` later."""
    at_once = dice.random() < 0.5
    async with w.fault(name, *w.nodes) as fault:
        primary.freeze()
        await promoted()
        may_lose(w, fault.begun_at - UNREPLICATED_SECONDS)
        if at_once:
            primary.thaw()
    if not at_once:
        await asyncio.sleep(seconds)
        primary.thaw()
