"""Waiting for conditions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 10.0
"""Seconds a condition may take on a busy machine; no test that passes waits as long."""


async def until(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]], within: float = PATIENCE
) -> Any:
    """Return what ``condition`` gives as soon as it is truthy; fails after ``within`` seconds."""
    async with asyncio.timeout(within):
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.005)
