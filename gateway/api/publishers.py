"""The way from the HTTP API to Redis: a publisher for each key, as long as there is the key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from publisher import AsyncPublisher

MOST_AT_WORK: Final = 1_000
"""Requests of keys that are under way: each holds a body, and waits for Redis or for somebody who confirms."""
MOST_OF_ONE_KEY: Final = 500
MOST_BYTES_AT_WORK: Final = 64 * 1024 * 1024
"""Of the bodies of all these requests. As Python's objects they take many times as much."""
MOST_BYTES_OF_ONE_KEY: Final = 32 * 1024 * 1024
"""A backend that goes wrong leaves room for the others: half of the requests, and half of the bytes."""


class Publishers:
    """A publisher for each key: its name is the actor of what is done with it.

    Args:
        make: a publisher for this actor.
    """

    def __init__(self, make: Callable[[str], AsyncPublisher]) -> None:
        self._make = make
        self._made: dict[str, AsyncPublisher] = {}
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def busy(self, name: str, size: int) -> str:
        """Why a request with this key, whose body has ``size`` bytes, cannot begin now; empty where it can."""
        if self._requests.total() >= MOST_AT_WORK:
            return f"{MOST_AT_WORK} requests are under way"
        if self._requests[name] >= MOST_OF_ONE_KEY:
            return f"{MOST_OF_ONE_KEY} requests of this key are under way"
        if self._bytes.total() + size > MOST_BYTES_AT_WORK:
            return f"the requests under way have bodies of {MOST_BYTES_AT_WORK} bytes"
        if self._bytes[name] + size > MOST_BYTES_OF_ONE_KEY:
            return f"the requests of this key have bodies of {MOST_BYTES_OF_ONE_KEY} bytes"
        return ""

    def lend(self, name: str, size: int) -> AsyncPublisher:
        """The publisher of the key with this name, for a request whose body has ``size`` bytes; until :meth:`take_back`."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name)
        self._requests[name] += 1
        self._bytes[name] += size
        return found

    def take_back(self, name: str, size: int) -> None:
        """The request has ended."""
        self._requests[name] -= 1
        self._bytes[name] -= size

    async def keep(self, names: Collection[str]) -> None:
        """Close the connections of keys that are not among these, but of those with requests under way."""
        for name in self._made.keys() - set(names):
            if not self._requests[name]:
                del self._requests[name], self._bytes[name]
                await self._made.pop(name).aclose()

    async def aclose(self) -> None:
        """Close the connections of all."""
        for each in self._made.values():
            await each.aclose()
        self._made.clear()
