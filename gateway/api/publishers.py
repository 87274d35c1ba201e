"""The way from the HTTP API to Redis: a publisher for each key, as long as there is the key."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gateway.api.admission import Admission
from publisher import AsyncPublisher


class Publishers:
    """A publisher for each key: its name is the actor of what is done with it.

    Args:
        make: a publisher for this actor.
        admission: knows whose requests are under way.
    """

    def __init__(self, make: Callable[[str], AsyncPublisher], admission: Admission) -> None:
        self._make = make
        self._admission = admission
        self._made: dict[str, AsyncPublisher] = {}

    def of(self, name: str) -> AsyncPublisher:
        """The publisher of the key with this name."""
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = self._make(name)
        return found

    async def keep(self, names: Collection[str]) -> None:
        """Close the connections of keys that are not among these, but of those with requests under way."""
        for name in self._made.keys() - set(names):
            if not self._admission.busy(name):
                await self._made.pop(name).aclose()

    async def aclose(self) -> None:
        """Close the connections of all."""
        for each in self._made.values():
            await each.aclose()
        self._made.clear()
