"""A node that has not heard the commands to all nodes: it delivers nothing until it knows what has ended meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.node.hub import Hub
from gateway.node.ports import HeldPlaces
from gateway.node.revocations import Revocations
from gateway.node.tasks import Tasks


class CutOff:
    """Holds what comes back after it, until Redis has been asked what was missed.

    The renewal of all places brings what has ended connections and users' tokens, and Redis is asked about each token with
    an id besides.

    Args:
        patience: seconds for which it may not be known what has ended before anything is held: some, where the messages
            come over other connections and the next server may bring the commands in a moment.
        released: told when delivery goes on. What came meanwhile was dropped.
    """

    def __init__(
        self,
        hub: Hub,
        places: HeldPlaces,
        revocations: Revocations,
        tasks: Tasks,
        patience: float,
        released: Callable[[], object],
    ) -> None:
        self._hub = hub
        self._places = places
        self._revocations = revocations
        self._tasks = tasks
        self._patience = patience
        self._released = released
        self._holding: asyncio.Task[None] | None = None
        self._going_on: asyncio.Task[None] | None = None
        self._settled = True

    @property
    def settled(self) -> bool:
        """Whether the node knows what has ended, or has not been without the commands for long enough to hold anything.

        Whoever comes in meanwhile is asked about: Redis knows what has ended.
        """
        return self._settled or not self._hub.held

    def listens(self, listening: bool) -> None:
        """The commands to all nodes are heard again, or no more."""
        if self._going_on is not None:
            self._going_on.cancel()
        self._settled = False
        if listening:
            self._places.restore()
            self._revocations.recheck()
            self._going_on = self._tasks.spawn(self._go_on(), "go on after a cut")
        elif not self._patience:
            self._hub.hold()
        elif self._holding is None:
            self._holding = self._tasks.spawn(self._hold_later(), "hold after a cut")

    async def _hold_later(self) -> None:
        await asyncio.sleep(self._patience)
        self._hub.hold()

    async def _go_on(self) -> None:
        await self._places.until_restored()
        await self._revocations.until_rechecked()
        self._settled = True
        # Not before: how long the commands were unheard, and how long it takes to ask, count together.
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        if self._hub.held:
            self._hub.release()
            self._released()
