"""Which event is sent when: those of a user one after the other, those of others beside them, each until it has arrived."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from publisher import AsyncEvents, Event, PublisherError

log = logging.getLogger(__name__)

_MOST: Final = 1_000
"""Events that are under way or wait for those before them. While there are so many no others are taken."""
_TAKEN: Final = 100
_ASKED_SECONDS: Final = 0.25
_REFRESHED_SECONDS: Final = 15.0
"""So often the group is told that those under way still are: after a minute they would be another process's."""
_REFUSALS: Final = 5
_ENDING_SECONDS: Final = 5.0
"""So long at the end Redis is told what has arrived and what has not. It may be away."""
_LONGEST_SECONDS: Final = 60.0
_PASSING: Final = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
"""Answers among the 4xx that say nothing against the event."""


class Gone(Exception):
    """The receiver has answered 410: it wants no events any more."""


def pause_after(failures: int, random: Callable[[], float]) -> float:
    """Seconds before the next try: about one at first, doubled up to 60; ``random`` (0 to 1) takes away up to a quarter."""
    return min(_LONGEST_SECONDS, 2.0 ** min(failures - 1, 16)) * (1 - random() / 4)


def _first(errors: BaseExceptionGroup, kind: type[Exception]) -> BaseException | None:
    """One of this kind among the errors of tasks, if there is one."""
    found: BaseException | None = errors.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class Delivery:
    """Takes events of a group and sends them.

    Args:
        post: sends an event; returns the status of the answer, or why there is none.
        pause: seconds to wait after so many failures in a row.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        events: AsyncEvents,
        post: Callable[[Event], Awaitable[int | str]],
        pause: Callable[[int], float],
        clock: Callable[[], float],
    ) -> None:
        self._events = events
        self._post = post
        self._pause = pause
        self._clock = clock
        # By id, from when they are taken until Redis knows that they are handled.
        self._under_way: set[str] = set()
        self._waiting: dict[str, deque[Event]] = {}
        self._handled: list[str] = []
        self._news = asyncio.Event()
        self._refresh_at = float("-inf")

    async def run(self) -> None:
        """Send events until cancelled; those that have arrived by then are acknowledged, the others are handed over to the next process.

        Raises:
            Gone: the receiver wants no more.
            publisher.errors.Rejected: Redis does not accept the command.
        """
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._turn(group)
        except BaseExceptionGroup as errors:
            raise _first(errors, Gone) or _first(errors, PublisherError) or errors from None
        finally:
            await self._hand_over()

    async def _turn(self, group: asyncio.TaskGroup) -> None:
        self._news.clear()
        refresh = self._clock() >= self._refresh_at
        room = _MOST - len(self._under_way)
        taken: list[Event] = []
        if refresh:
            self._refresh_at = self._clock() + _REFRESHED_SECONDS
            taken = await self._take(_MOST, own=True)
        elif room > 0:
            taken = await self._take(min(room, _TAKEN), own=False)
        else:
            await self._acknowledge()
        new = [each for each in taken if each.id not in self._under_way]
        for event in new:
            self._under_way.add(event.id)
            waiting = self._waiting.get(event.user)
            if waiting is None:
                self._waiting[event.user] = deque([event])
                group.create_task(self._serve(event.user))
            else:
                waiting.append(event)
        if not new and not refresh:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASKED_SECONDS):
                    await self._news.wait()

    async def _take(self, most: int, *, own: bool) -> list[Event]:
        handled = tuple(self._handled)
        taken = await self._events.take(handled, most=most, own=own)
        self._forget(handled)
        return taken

    async def _acknowledge(self) -> None:
        if handled := tuple(self._handled):
            await self._events.acknowledge(handled)
            self._forget(handled)

    async def _give_back(self) -> None:
        await self._acknowledge()
        if self._under_way:
            await self._events.release(tuple(self._under_way))

    async def _hand_over(self) -> None:
        try:
            # In a task that is cancelled, asyncio.timeout does not end with TimeoutError before Python 3.11.4.
            await asyncio.wait_for(self._give_back(), _ENDING_SECONDS)
        except (TimeoutError, PublisherError):
            log.warning("webhooks_not_handed_over events=%d", len(self._under_way))

    def _forget(self, handled: tuple[str, ...]) -> None:
        del self._handled[: len(handled)]
        self._under_way.difference_update(handled)

    async def _serve(self, user: str) -> None:
        waiting = self._waiting[user]
        while waiting:
            event = waiting[0]
            await self._send(event)
            waiting.popleft()
            self._handled.append(event.id)
            self._news.set()
        del self._waiting[user]

    async def _send(self, event: Event) -> None:
        """Send an event until it has arrived, or was refused so often that it is set aside."""
        failures = refusals = 0
        while True:
            answer = await self._post(event)
            status = answer if isinstance(answer, int) else 0
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return
            if status == HTTPStatus.GONE:
                raise Gone
            failures += 1
            log.warning("webhook_failed id=%s answer=%r tries=%d", event.id, answer, failures)
            if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                refusals += status not in _PASSING
            if refusals >= _REFUSALS:
                await self._events.set_aside(event, f"HTTP {status}")
                log.error("webhook_set_aside id=%s answer=%r", event.id, answer)
                return
            await asyncio.sleep(self._pause(failures))
