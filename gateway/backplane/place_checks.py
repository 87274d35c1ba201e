"""Asking the nodes that hold a user's places whether these are still somebody's, when the user is at the limit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from gateway.backplane.place_table import PlaceTable
from gateway.node.tasks import Tasks
from publisher.contract.control import CheckPlaces, PlacesChecked
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 4.0
"""A node that has not answered by then will not: a silent client is closed after three."""
_AGAIN_SECONDS: Final = 1.0
"""A user's places are looked through at most so often."""


class Check:
    """The places of one user, looked through."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._awaited = set(nodes)
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether all nodes have answered, or will not any more."""
        return self._over.is_set()

    def answered(self, node: str) -> None:
        """A node has answered."""
        self._awaited.discard(node)
        if not self._awaited:
            self.end()

    def end(self) -> None:
        """Wait for nobody any more."""
        self._over.set()

    async def wait(self, seconds: float) -> None:
        """Return when it is over, or after some time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


class PlaceChecks:
    """Asks the holders of places, and answers those who ask this node.

    Args:
        reconcile: releases the places of a user that are this node's and no connection's.
        look: pings connections of this node, as ``Places`` says.
    """

    def __init__(
        self,
        pipeline: Calls,
        table: PlaceTable,
        reconcile: Callable[[str], Awaitable[None]],
        look: Callable[[list[str]], Awaitable[None]],
        tasks: Tasks,
    ) -> None:
        self._pipeline = pipeline
        self._table = table
        self._reconcile = reconcile
        self._look = look
        self._tasks = tasks
        self._checks: dict[str, Check] = {}

    # -- asking -------------------------------------------------------------------------------

    def of(self, user: str, members: list[bytes]) -> Check:
        """The check of a user's places: one that is under way or was a moment ago, else a new one."""
        check = self._checks.get(user)
        if check is None:
            command = self._table.check(user, members)
            check = self._checks[user] = Check(command.nodes)
            self._tasks.spawn(self._run(check, command), f"check places of {user}")
        return check

    async def _run(self, check: Check, command: CheckPlaces) -> None:
        try:
            await self._pipeline.call(self._table.send(command))
            await check.wait(CHECK_SECONDS)
        except Unavailable as error:
            log.info("places_unchecked user=%r reason=%s", command.user, error.reason)
        finally:
            check.end()
            loop = asyncio.get_running_loop()
            loop.call_later(_AGAIN_SECONDS, self._checks.pop, command.user)

    def checked(self, answer: PlacesChecked) -> None:
        """A node has answered; nobody may wait for it any more."""
        if (check := self._checks.get(answer.user)) is not None:
            check.answered(answer.node)

    # -- answering ----------------------------------------------------------------------------

    def hear(self, command: CheckPlaces) -> None:
        """Do what a node asks for, if it asks this one too."""
        if self._table.node in command.nodes:
            self._tasks.spawn(self._answer(command), f"look through places of {command.user}")

    async def _answer(self, command: CheckPlaces) -> None:
        await self._reconcile(command.user)
        own = [self._table.own(each.encode()) for each in command.members]
        await self._look([each for each in own if each is not None])
        if command.asker:
            # Behind the releases, on the same connection: who hears this finds the places free.
            with contextlib.suppress(Unavailable):
                await self._pipeline.call(self._table.answer(command))
