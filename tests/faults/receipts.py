"""A backend that asks who has its messages, and what it may be told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from publisher import Published
from tests.faults.moderation import until_done
from tests.faults.numbered import LONG, NumberedPublisher
from tests.faults.trace import Confirmation, Trace

_WAITS_SECONDS: Final = 1.0


class Asker(NumberedPublisher):
    """Waits with each publish until somebody has the message, and asks again about an earlier one."""

    async def _publish(self, number: int) -> None:
        await super()._publish(number)
        publications = self._trace.publications
        earlier = self._dice.choice(
            [each for each in publications[-200:] if each.channel == self._channel]
        )
        ask = partial(self._publisher.receipts, self._channel, earlier.id)
        users = tuple(each.user for each in await until_done(ask))
        self._note(earlier.number, earlier.id, users)

    async def _once(self, number: int) -> Published:
        published = await self._publisher.publish(
            self._channel,
            {"number": number},
            idempotency_key=f"{self._channel}/{number}",
            retention=LONG,
            wait_confirmed=_WAITS_SECONDS,
        )
        self._note(number, published.id, published.confirmed or ())
        return published

    def _note(self, number: int, id_: int, users: tuple[str, ...]) -> None:
        told = Confirmation(self._channel, number, id_, users, time.monotonic())
        self._trace.confirmations.append(told)


def confirmed_wrongly(trace: Trace) -> Iterator[str]:
    """Each user of whom a backend was told that they have a message, and to whom it had not come by then.

    What Redis has lost, so that its log is without it in the end, counts as had by who has confirmed a later message
    (docs/publisher.md, "Receipts").
    """
    lost = {(each.channel, each.id) for each in trace.publications if trace.lost_on_purpose(each)}
    had: dict[tuple[str, str, int], float] = {}
    for device in trace.devices:
        for session in device.sessions:
            for each in session.arrivals:
                key = device.user, each.channel, each.id
                had[key] = min(each.at, had.get(key, each.at))
    for told in trace.confirmations:
        for user in told.users:
            came_at = had.get((user, told.channel, told.id))
            came = came_at is not None and came_at <= told.at
            if not came and (told.channel, told.id) not in lost:
                yield f"receipt: {user} was said to have {told.channel} #{told.number} at {told.at:.2f}, and had it not"
