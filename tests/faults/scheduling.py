"""A backend that lets messages be published later and takes some of them back, and what must hold of these."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Final

from publisher import AsyncPublisher, Scheduled
from tests.faults.backend import Backend
from tests.faults.moderation import until_done
from tests.faults.numbered import LONG
from tests.faults.trace import Interval, Plan, Publication, Trace, moment_of

LATE_SECONDS: Final = 1.0
_MACHINE_SECONDS: Final = 0.5
"""Other tests use the machine at the same time."""
TAKEN_OVER_SECONDS: Final = 4.0
"""So long after the node has ended that publishes them another one does (docs/publisher.md, "Publishing later")."""
_EARLY_SECONDS: Final = 0.01
"""``at`` is in milliseconds, and this machine's two clocks are read one after the other."""
_SOONEST_SECONDS: Final = 0.2
_LATEST_SECONDS: Final = 3.0


class Planner(Backend):
    """Schedules ``1, 2, 3, …``, about ``rate`` a second, each within some seconds, and cancels every fourth or so."""

    def __init__(
        self,
        publisher: AsyncPublisher,
        channel: str,
        trace: Trace,
        dice: random.Random,
        rate: float,
    ) -> None:
        super().__init__()
        self._publisher = publisher
        self._channel = channel
        self._trace = trace
        self._dice = dice
        self._pause = 1 / rate

    async def run(self) -> None:
        """Go on until stopped; what is scheduled then is left to be published."""
        for number in count(1):
            if await self._stopped_within(self._pause * self._dice.uniform(0.5, 1.5)):
                return
            await self._schedule(number)
            if self._dice.random() < 0.25:
                await self._cancel()

    async def _schedule(self, number: int) -> None:
        asked_at = time.monotonic()
        at = time.time() + self._dice.uniform(_SOONEST_SECONDS, _LATEST_SECONDS)
        made: Scheduled = await until_done(partial(self._plan, number, at))
        plan = Plan(self._channel, number, moment_of(made.at), asked_at, time.monotonic(), made.id)
        self._trace.plans.append(plan)

    async def _plan(self, number: int, at: float) -> Scheduled:
        return await self._publisher.publish(
            self._channel,
            {"number": number},
            idempotency_key=f"{self._channel}/{number}",
            retention=LONG,
            at=at,
        )

    async def _cancel(self) -> None:
        """Take one back that waits; sometimes just when it is due."""
        now = time.monotonic()
        waiting = [
            each for each in self._trace.plans[-30:] if each.at > now and not each.cancel_asked_at
        ]
        if not waiting:
            return
        plan = self._dice.choice(waiting)
        if self._dice.random() < 0.5 and await self._stopped_within(plan.at - now):
            return
        plan.cancel_asked_at = time.monotonic()
        plan.cancelled = await until_done(partial(self._publisher.cancel, plan.id))
        plan.cancel_done_at = time.monotonic()


def publications_of(trace: Trace) -> list[Publication]:
    """What has become of the plans: publications of what is in the logs."""
    return [
        Publication(plan.channel, plan.number, id_, plan.at, moment_of(id_ / 1e6))
        for plan in trace.plans
        for id_ in trace.logged[plan.channel].get(plan.number, ())[:1]
    ]


def due_by(trace: Trace, at: float) -> float:
    """When a message that is due ``at`` a moment must be published: outages count for nothing, and they and a node's end let another
    node take over.
    """
    latest = at + LATE_SECONDS
    killed = [Interval(each, each) for each in trace.killed.values()]
    for each in sorted([*trace.outages, *killed]):
        if each.begin <= latest and each.end >= at - TAKEN_OVER_SECONDS:
            over = max(each.end + LATE_SECONDS, each.begin + TAKEN_OVER_SECONDS)
            latest = max(latest, over)
    return latest + _MACHINE_SECONDS


def scheduled_wrongly(trace: Trace) -> Iterator[str]:
    """Each plan whose message is not in the log once, is there too early or too late, or although it was cancelled."""
    arrived: dict[tuple[str, int], set[int]] = {}
    for device in trace.devices:
        for session in device.sessions:
            for each in session.arrivals:
                arrived.setdefault((each.channel, each.number), set()).add(each.id)
    for plan in trace.plans:
        logged = trace.logged.get(plan.channel, {}).get(plan.number, [])
        had = arrived.get((plan.channel, plan.number), set())
        yield from _judged(trace, plan, logged, had)


def _judged(trace: Trace, plan: Plan, logged: list[int], had: set[int]) -> Iterator[str]:
    what = f"scheduled: {plan.channel} #{plan.number}"
    # What Redis had only after its moment is due at once.
    latest = due_by(trace, max(plan.at, plan.done_at))
    in_question = trace.losing(plan.asked_at, latest)
    if plan.cancelled:
        if (logged or had) and not trace.losing(plan.cancel_asked_at, plan.cancel_done_at):
            yield f"{what} was cancelled, and is there as {sorted({*logged, *had})}"
        return
    if not logged and not plan.cancel_asked_at and not in_question:
        yield f"{what} was never published, due at {plan.at:.2f}"
    if len({*logged, *had}) > 1 and not in_question:
        yield f"{what} is there as {sorted({*logged, *had})}"
    for id_ in logged:
        published_at = moment_of(id_ / 1e6)
        if published_at < plan.at - _EARLY_SECONDS:
            yield f"{what} was published {plan.at - published_at:.3f} s too early"
        if published_at > latest and not in_question:
            yield f"{what} was published {published_at - plan.at:.1f} s late, due at {plan.at:.2f}"
