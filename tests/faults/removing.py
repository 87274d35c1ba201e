"""A backend whose messages are deleted, replaced by newer ones or only good for a while, and what must hold of these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from publisher import Published
from tests.faults.moderation import until_done
from tests.faults.numbered import LONG, NumberedPublisher
from tests.faults.trace import Device, Publication, Removal, Session, Trace, moment_of

DELETED: Final = "deleted"
COLLAPSED: Final = "collapsed"
EXPIRED: Final = "expired"
_KEYS: Final = 3
_LIVES_SECONDS: Final = (1, 2, 3)
_HEARD_SECONDS: Final = 1.0
_CLOCKS_SECONDS: Final = 0.05
"""A node reads the clock a moment before it sends."""


class Remover(NumberedPublisher):
    """Numbers its messages as any other does; of four one is plain, one lives for some seconds, one has a collapse key, and one
    is deleted after a moment. The last one is plain.
    """

    async def run(self) -> None:
        """Publish until stopped."""
        await super().run()
        await self._publish(self._last + 1)

    _last = 0

    async def _publish(self, number: int) -> None:
        self._last = number
        way = (
            "plain"
            if self._stopping.is_set()
            else self._dice.choice(("plain", DELETED, COLLAPSED, EXPIRED))
        )
        self._options: dict[str, Any] = {}
        if way == EXPIRED:
            self._options["ttl"] = self._dice.choice(_LIVES_SECONDS)
        elif way == COLLAPSED:
            self._options["collapse_key"] = f"key {self._dice.randrange(_KEYS)}"
        await super()._publish(number)
        published = self._trace.publications[-1]
        if way == EXPIRED:
            over = moment_of(published.id / 1e6) + self._options["ttl"]
            self._note(published, EXPIRED, over, over)
        elif way == COLLAPSED:
            self._collapse(published, self._options["collapse_key"])
        elif way == DELETED and not await self._stopped_within(self._dice.uniform(0, 2)):
            asked_at = time.monotonic()
            told = await until_done(partial(self._publisher.delete, self._channel, published.id))
            self._note(published, DELETED, asked_at, time.monotonic(), told=told)

    def _collapse(self, newer: Publication, key: str) -> None:
        older = self._newest.get(key)
        self._newest[key] = newer
        if older is not None:
            self._note(older, COLLAPSED, newer.asked_at, newer.published_at)

    def _note(
        self,
        published: Publication,
        how: str,
        asked_at: float,
        done_at: float,
        *,
        told: bool = True,
    ) -> None:
        removal = Removal(self._channel, published.number, how, asked_at, done_at, told)
        self._trace.removals.append(removal)

    async def _once(self, number: int) -> Published:
        return await self._publisher.publish(
            self._channel,
            {"number": number},
            idempotency_key=f"{self._channel}/{number}",
            retention=LONG,
            **self._options,
        )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._newest: dict[str, Publication] = {}


def removed_wrongly(trace: Trace) -> Iterator[str]:
    """What came to somebody who has connected after it was removed, what is still in the log, and what was there for long enough
    and did not reach somebody who listened.
    """
    published = {(each.channel, each.number): each for each in trace.publications}
    for removal in trace.removals:
        publication = published[removal.channel, removal.number]
        if trace.losing(publication.asked_at, removal.done_at):
            continue
        yield from _kept(trace, removal, publication)
        for device in trace.devices:
            if removal.channel in device.channels:
                for session in device.sessions:
                    yield from _delivered(device, session, removal, publication)
                    yield from _unheard(trace, device, session, removal, publication)


def _kept(trace: Trace, removal: Removal, publication: Publication) -> Iterator[str]:
    # One that has expired stays in the log, and is read as if it were not there.
    if removal.how != EXPIRED and trace.kept(publication):
        yield f"removed: {removal.channel} #{removal.number} was {removal.how}, and is in the log"


def _delivered(
    device: Device, session: Session, removal: Removal, publication: Publication
) -> Iterator[str]:
    late = session.asked_at - removal.done_at
    if late > _CLOCKS_SECONDS and any(each.id == publication.id for each in session.arrivals):
        yield (
            f"removed: {device.name}, who has connected {late:.1f} s after {removal.channel} #{removal.number} was "
            f"{removal.how}, got it"
        )


def _unheard(
    trace: Trace, device: Device, session: Session, removal: Removal, publication: Publication
) -> Iterator[str]:
    begin, end = session.answered.get(removal.channel, trace.ended_at), removal.asked_at
    there = begin < publication.asked_at and session.lasted_until(trace.ended_at) > end
    if not there or end - publication.published_at < _HEARD_SECONDS:
        return
    if any(
        each.begun_at <= end and each.recovered_at >= publication.asked_at
        for each in trace.occurrences
    ):
        return
    if not any(each.id == publication.id for each in session.arrivals):
        waited = end - publication.published_at
        yield (
            f"removed: {removal.channel} #{removal.number} was there for {waited:.1f} s before it was {removal.how}, "
            f"and {device.name} did not get it"
        )
