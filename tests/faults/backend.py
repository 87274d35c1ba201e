"""What all backends of a world have in common: each goes on until it is told to stop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Backend(ABC):
    """Works until it is stopped; what has been begun is finished."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    @abstractmethod
    async def run(self) -> None:
        """Go on until stopped."""

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True
