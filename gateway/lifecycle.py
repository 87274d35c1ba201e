"""How the loops of a node are kept running, and how its last steps are taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final

from publisher.errors import Unavailable

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 3.0
"""So long Redis has to take what a node that ends still has to write."""


async def take_step(
    name: str, step: Coroutine[None, None, None], seconds: float | None = _STEP_SECONDS
) -> None:
    """Take one of the last steps; that it fails is logged and keeps no other from being taken."""
    try:
        async with asyncio.timeout(seconds):
            await step
    except (Unavailable, TimeoutError) as error:
        reason = error.reason if isinstance(error, Unavailable) else "no answer in time"
        log.warning("stop_incomplete step=%r reason=%s", name, reason)
    except Exception:
        log.exception("stop_failed step=%r", name)


async def keep_going(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a loop of the node; a defect in it is logged and must not leave the node half alive."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("loop_failed loop=%s", work.__qualname__)
            await asyncio.sleep(_RESTART_SECONDS)
