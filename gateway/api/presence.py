"""Who is in a channel, read once for all who ask within a while: page by page, or again and again."""

from __future__ import annotations

import asyncio
from typing import Final

from publisher import AsyncPublisher

_KEPT_SECONDS_A_USER: Final = 0.0001
"""The longer a list is, the longer the next reading waits: of 100,000 users it is read once in 10 s."""
_MOST_KEPT_USERS: Final = 200_000
"""In all lists that are kept. What is more is read for those who wait for it."""


class PresenceLists:
    """The users of channels, sorted, as of a moment ago."""

    def __init__(self) -> None:
        # Each reading, under way or kept.
        self._readings: dict[str, asyncio.Task[list[str]]] = {}
        self._kept = 0

    async def users(self, channel: str, publisher: AsyncPublisher) -> list[str]:
        """Who is in a channel, by ``publisher`` where that is to be read.

        Raises:
            PublisherError: it cannot be read.
        """
        reading = self._readings.get(channel)
        if reading is None:
            read = self._read(channel, publisher)
            reading = self._readings[channel] = asyncio.create_task(read, name="read who is there")
        return await asyncio.shield(reading)  # none of those who wait ends it for the others

    async def _read(self, channel: str, publisher: AsyncPublisher) -> list[str]:
        kept = 0
        try:
            users = await publisher.presence(channel)
            if self._kept + len(users) <= _MOST_KEPT_USERS:
                kept = len(users)
            return users
        finally:
            self._kept += kept
            seconds = kept * _KEPT_SECONDS_A_USER
            asyncio.get_running_loop().call_later(seconds, self._forget, channel, kept)

    def _forget(self, channel: str, kept: int) -> None:
        self._kept -= kept
        del self._readings[channel]

    async def aclose(self) -> None:
        """End what is being read."""
        readings = list(self._readings.values())
        for each in readings:
            each.cancel()
        await asyncio.gather(*readings, return_exceptions=True)
