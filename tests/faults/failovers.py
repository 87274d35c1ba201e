"""What a failover may lose.

Replication is asynchronous: a primary that ends takes along what it has acknowledged and not sent on. And one that
is not told of its end, because it hung or because Sentinel tells it late, goes on taking writes until those who write have
noticed. Both are Redis's promise, not the gateway's (docs/delivery.md, "What Redis can still lose").
"""

from __future__ import annotations

import time
from typing import Final

from tests.faults.trace import Interval
from tests.faults.world import World

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
