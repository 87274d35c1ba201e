"""A node that has not heard the commands to all nodes: it delivers nothing until it knows what has ended meanwhile."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import HeldPlaces
from gateway.node.revocations import Revocations
from gateway.node.tasks import Tasks

_LOOK_SECONDS: Final = 0.25


class Delivery(Protocol):
    """What brings messages to connections."""

    def pause_all(self, connection: Connection) -> None:
        """Let a connection hear nothing until it is resumed."""

    def resume_all(self, connection: Connection) -> None:
        """Let it go on from where it was paused."""

    async def check_all(self) -> None:
        """Compare every logged channel with its log."""


class CutOff:
    """Holds what comes back after it, until Redis has been asked what was missed.

    Redis is asked about each user, and about each token with an id. Whom it cannot tell of yet, because the server of a
    cluster that knows is away or refuses, hears nothing until it has told; the others go on.

    Args:
        patience: seconds for which it may not be known what has ended before anything is held: some, where the messages
            come over other connections and the next server may bring the commands in a moment.
    """

    def __init__(
        self,
        hub: Hub,
        delivery: Delivery,
        places: HeldPlaces,
        revocations: Revocations,
        tasks: Tasks,
        patience: float,
    ) -> None:
        self._hub = hub
        self._delivery = delivery
        self._places = places
        self._revocations = revocations
        self._tasks = tasks
        self._patience = patience
        self._paused: set[Connection] = set()
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
            self._revocations.unheard()
            self._going_on = self._tasks.spawn(
                self._go_on(self._places.rounds), "go on after a cut"
            )
        elif not self._patience:
            self._hub.hold()
        elif self._holding is None:
            self._holding = self._tasks.spawn(self._hold_later(), "hold after a cut")

    async def _hold_later(self) -> None:
        await asyncio.sleep(self._patience)
        self._hub.hold()

    async def _go_on(self, rounds: int) -> None:
        await self._revocations.until_rechecked()
        # Before anything is delivered again.
        self._pause(self._revocations.in_question)
        self._settled = True
        # Not before: how long the commands were unheard, and how long it takes to ask, count together.
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
        if self._hub.held:
            self._hub.release()
            self._tasks.spawn(self._delivery.check_all(), "check all channels")
        # Whose place is another's by now learns of it by that. Only now, since it takes far longer.
        if self._places.rounds == rounds:
            self._places.restore()
        while self._paused:
            await asyncio.sleep(_LOOK_SECONDS)
            self._resume(self._paused - self._revocations.in_question)

    def _pause(self, connections: set[Connection]) -> None:
        for each in connections - self._paused:
            self._delivery.pause_all(each)
        self._resume(self._paused - connections)
        self._paused |= connections

    def _resume(self, connections: set[Connection]) -> None:
        self._paused -= connections
        for each in connections:
            self._delivery.resume_all(each)
