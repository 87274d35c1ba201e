"""Reading what the nodes tell: the next event, and what is acknowledged by asking for it, apart from the waiting."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import Final, Protocol, get_args

from publisher.contract import events
from publisher.contract.calls import Call, Reply
from publisher.contract.events import Consumer, Event, Start
from publisher.contract.keys import Keys
from publisher.errors import InvalidData, Unavailable
from publisher.records import check_name
from publisher.retrying import Retries, again, once, repeat
from publisher.transport.flows import Flow, Pause, T

log = logging.getLogger("publisher")

_COUNT: Final = 100
_GIVEN: Final = 1_000
"""After a lost answer so many are given once more, which are all that a consumer has been given: no later one comes before them."""
_ASKED_SECONDS: Final = 0.25
"""So often a consumer asks while there is nothing. To wait inside Redis would take a connection of its own."""
_OTHERS_SECONDS: Final = 15.0
_STALE_SECONDS: Final = 15.0
"""What was taken longer ago is taken once more: after a minute it would be another consumer's."""
_MANY: Final = 16
"""After so many failures in a row the pauses do not grow any more."""


class EventReader:
    """One consumer of a group. What it is given stays its own for a minute; then others may be given it, too.

    Args:
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, keys: Keys, group: str, start: Start, retries: Retries, clock: Callable[[], float]
    ) -> None:
        check_name("group", group)
        if start not in get_args(Start):
            raise InvalidData(f"start must be {' or '.join(map(repr, get_args(Start)))}")
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._keys = keys
        self._consumer = Consumer(group, name)
        self._start: Start = start
        self._retries = retries
        self._clock = clock
        self._taken: deque[Event] = deque()
        self._taken_at = self._others_at = float("-inf")
        self._looked = False
        self._given: str | None = None
        # Until Redis has noted it; a call may be cancelled.
        self._handled: list[str] = []

    def next(self) -> Flow[Event]:
        """Acknowledge what was given last, and give the next event; waits until there is one, and while Redis is away.

        Raises:
            Rejected: Redis has answered with an error that asking again does not mend.
        """
        if self._given is not None:
            self._handled.append(self._given)
            self._given = None
        if self._clock() - self._taken_at >= _STALE_SECONDS:
            self._taken.clear()
        if self._handled and self._taken:
            yield from self.acknowledge(tuple(self._handled))
            self._handled.clear()
        while not self._taken:
            taken = yield from self.take(tuple(self._handled))
            self._handled.clear()
            self._taken.extend(taken)
            if not taken:
                yield Pause(_ASKED_SECONDS)
        event = self._taken.popleft()
        self._given = event.id
        return event

    def take(
        self, handled: Sequence[str] = (), *, most: int = _COUNT, own: bool = True
    ) -> Flow[list[Event]]:
        """Acknowledge the events that are ``handled``, and give the next ones, at most so many, if there are any.

        ``own``: those first that were given before and not acknowledged; so it is too where an answer was lost. Raises as
        :meth:`next` does.
        """
        now = self._clock()
        others = now - self._others_at >= _OTHERS_SECONDS
        tries = count()

        def attempt() -> Flow[Reply]:
            first = next(tries) == 0
            call = events.take(
                self._keys,
                self._consumer,
                self._start,
                handled,
                most=most if first else max(most, _GIVEN),
                own=own or not first,
                others=others,
            )
            return (yield from once([call]))[0]

        reply = yield from self._insist(lambda: again(attempt, self._retries))
        # A group that is gone now was lost by Redis: what stands in the stream has come since.
        self._start = "oldest"
        self._taken_at = self._clock()
        if others:
            self._others_at = now
        missed, given = events.parse(reply)
        if missed:
            log.warning(
                "events_missed group=%s count=%d advice=%r",
                self._consumer.group,
                missed,
                "the group was further behind than the stream is long: read the state anew, and raise GATEWAY_EVENTS_MAX_LENGTH",
            )
        if not given and not self._looked:
            yield from self._look_who_tells()
            self._looked = True
        return given

    def _look_who_tells(self) -> Flow[None]:
        """Who waits for events that nobody tells is told so once."""
        call = Call(("EXISTS", self._keys.reporting))
        (told,) = yield from self._insist(lambda: repeat([call], self._retries))
        if not told:
            log.warning(
                "events_from_nobody group=%s advice=%r",
                self._consumer.group,
                "no gateway tells of events here, or none does yet: name those that you want in GATEWAY_EVENTS of the gateways",
            )

    def acknowledge(self, handled: Sequence[str]) -> Flow[None]:
        """Note that events are handled. Raises as :meth:`next` does."""
        yield from self._run(events.acknowledge(self._keys, self._consumer.group, handled))

    def release(self, unhandled: Sequence[str]) -> Flow[None]:
        """Let others of the group be given events at once. Raises as :meth:`next` does."""
        yield from self._run(events.release(self._keys, self._consumer, unhandled))

    def set_aside(self, event: Event, reason: str) -> Flow[None]:
        """Note that an event cannot be handled, and why. Raises as :meth:`next` does."""
        call = events.set_aside(self._keys, self._consumer.group, event, reason)
        yield from self._run(call)

    def _run(self, call: Call) -> Flow[None]:
        yield from self._insist(lambda: repeat([call], self._retries))

    def _insist(self, flow: Callable[[], Flow[T]]) -> Flow[T]:
        while True:
            try:
                reply = yield from flow()
            except Unavailable as error:
                if not error.retryable:
                    raise
                yield self._retries.pause(_MANY)
            else:
                return reply


class Run(Protocol):
    """Takes the steps of a flow."""

    def __call__(self, flow: Flow[T], /) -> Awaitable[T]: ...


class Events(Iterator[Event]):
    """The events of a group, without an end. Asking for the next acknowledges the one before."""

    def __init__(self, reader: EventReader, run: Callable[[Flow[Event]], Event]) -> None:
        self._reader = reader
        self._run = run

    def __next__(self) -> Event:
        return self._run(self._reader.next())


class AsyncEvents(AsyncIterator[Event]):
    """The same for asyncio, by ``async for`` in one task; or by :meth:`take`, for who handles several events side by side."""

    def __init__(self, reader: EventReader, run: Run) -> None:
        self._reader = reader
        self._run = run

    async def __anext__(self) -> Event:
        return await self._run(self._reader.next())

    async def take(
        self, handled: Sequence[str] = (), *, most: int = _COUNT, own: bool = True
    ) -> list[Event]:
        """Acknowledge the events with the ids ``handled``, and give the next ones, at most so many; none where there are none.

        ``own``: those first that were given here before and are not acknowledged; after a lost answer so it is anyway, and up to 1,000
        are given. Within a minute they have to be given so again, or
        they may be given to another consumer too.

        Raises:
            Rejected: Redis does not accept the command.
        """
        return await self._run(self._reader.take(handled, most=most, own=own))

    async def acknowledge(self, handled: Sequence[str]) -> None:
        """Acknowledge events. Raises as :meth:`take` does."""
        await self._run(self._reader.acknowledge(handled))

    async def release(self, unhandled: Sequence[str]) -> None:
        """Let others of the group be given events at once that were given here, before newer ones. Raises as :meth:`take` does."""
        await self._run(self._reader.release(unhandled))

    async def set_aside(self, event: Event, reason: str) -> None:
        """Acknowledge an event that cannot be handled, and keep it, with the reason, among the last 10,000 such ones
        (``rt1:aside:{rt1:events}``). Raises as :meth:`take` does.
        """
        await self._run(self._reader.set_aside(event, reason))
