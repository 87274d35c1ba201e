"""What must hold of every trace, whatever was done to the system meanwhile.

Pure functions from a trace to the violations found in it, each a sentence that names who, what and when.
Their first word says of which kind they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.faults.allowance import STRICT, Allowance
from tests.faults.attendance import seen_wrongly
from tests.faults.delivery import delivered_wrongly
from tests.faults.endings import ended_wrongly
from tests.faults.events import told_wrongly
from tests.faults.honesty import dishonest
from tests.faults.leftovers import leftovers
from tests.faults.logs import unexplained
from tests.faults.moderation import overheard
from tests.faults.receipts import confirmed_wrongly
from tests.faults.removing import removed_wrongly
from tests.faults.scheduling import scheduled_wrongly
from tests.faults.trace import Device, Interval, LossReport, Outcome, Trace
from tests.faults.turns import late

MAX_CONNECTIONS: Final = 5
NODE_LEASE_SECONDS: Final = 10.0
SILENT: Final = 3008
_HEALING_SECONDS: Final = 5.0
_SHOWN: Final = 30
_TOLD_WITHIN_SECONDS: Final = 120.0
"""So long after Redis has lost writes clients may still learn of it."""


def violations(trace: Trace, allowance: Allowance = STRICT) -> list[str]:
    """Everything in ``trace`` that must not be; empty when all is well."""
    return [
        *delivered_wrongly(trace, allowance),
        *_above_the_limit(trace, allowance),
        *(each for device in trace.devices for each in _misbehaved(trace, device, allowance)),
        *(() if allowance.losses else dishonest(trace)),
        *overheard(trace),
        *ended_wrongly(trace, allowance),
        *seen_wrongly(trace),
        *(() if allowance.losses else _of_what_redis_keeps(trace)),
        *leftovers(trace),
        *unexplained(trace),
        *late(trace, allowance.turn_seconds),
    ]


def _of_what_redis_keeps(trace: Trace) -> Iterator[str]:
    yield from scheduled_wrongly(trace)
    yield from removed_wrongly(trace)
    yield from confirmed_wrongly(trace)
    yield from told_wrongly(trace)


def require(trace: Trace, allowance: Allowance = STRICT) -> None:
    """Fail when anything is in ``trace`` that must not be.

    Raises:
        AssertionError: it tells what, up to a screenful.
    """
    found = violations(trace, allowance)
    if found:
        raise AssertionError("\n".join([f"{len(found)} violations", *found[:_SHOWN]]))


# -- the limit, and good manners --------------------------------------------------------------


def _above_the_limit(trace: Trace, allowance: Allowance) -> Iterator[str]:
    """No user holds more places than five, in Redis never, as clients see it for no longer than a moment."""
    for sample in trace.places:
        if sample.count > MAX_CONNECTIONS:
            yield f"limit: {sample.user} held {sample.count} places at {sample.at:.2f}"
    for user in {device.user for device in trace.devices}:
        for begin, end in too_many(trace, user):
            excused = sum(
                each.overlap(begin, end) for each in (*_cut_off(trace), *_told_late(trace, user))
            )
            if end - begin - excused > allowance.limit_seconds:
                yield f"limit: {user} had too many connections for {end - begin:.1f} s, from {begin:.2f}"


def _cut_off(trace: Trace) -> Iterator[Interval]:
    """When a node was away for longer than its lease, or while Redis lost that, so that others had its users' places
    (docs/delivery.md).
    """
    for each in trace.occurrences:
        if each.name == "node_frozen":
            lost = trace.losing(each.begun_at, each.ended_at)
            begin = each.begun_at + (0.0 if lost else NODE_LEASE_SECONDS)
            if begin < each.ended_at:
                yield Interval(begin, each.ended_at + _HEALING_SECONDS)


def _told_late(trace: Trace, user: str) -> Iterator[Interval]:
    """When connections of a user's had been given up as silent, and a slow line had not told their clients yet."""
    for device in trace.devices:
        for session in device.sessions:
            if device.user != user or session.close_code != SILENT or session.ended_at is None:
                continue
            for each in trace.occurrences:
                if each.name == "lines_are_slow" and each.begun_at < session.ended_at:
                    end = min(session.ended_at, each.ended_at + _HEALING_SECONDS)
                    yield Interval(each.begun_at, end)


def too_many(trace: Trace, user: str) -> list[tuple[float, float]]:
    """When more of a user's connections were open than may be."""
    changes: list[tuple[float, int]] = []
    for device in trace.devices:
        if device.user == user:
            for session in device.sessions:
                changes.append((session.opened_at, 1))
                changes.append((session.lasted_until(trace.ended_at), -1))
    spells: list[tuple[float, float]] = []
    begun, count = 0.0, 0
    for at, change in sorted(changes):
        count += change
        if count == MAX_CONNECTIONS + 1 and change > 0:
            begun = at
        elif count == MAX_CONNECTIONS and change < 0:
            spells.append((begun, at))
    return spells


def _misbehaved(trace: Trace, device: Device, allowance: Allowance) -> Iterator[str]:
    """Nobody is told of a loss that was none, nor of a mistake they did not make."""
    if device.gave_up:
        yield f"gave up: {device.name} found nobody to let it in"
    for session in device.sessions:
        for error in session.errors:
            if error == "connection_limit" and allowance.evictions:
                continue
            yield f"error: {device.name} was told {error}"
        for report in session.reports:
            if not _may_be_true(trace, report, allowance):
                yield f"false alarm: {device.name} was told of a loss in {report.channel} at {report.at:.2f}"


def _may_be_true(trace: Trace, report: LossReport, allowance: Allowance) -> bool:
    """Whether Redis has lost something of the channel; what retention takes away is judged elsewhere."""
    if allowance.losses or report.channel in trace.short:
        return True
    return any(
        each.begin <= report.at <= each.end + _TOLD_WITHIN_SECONDS
        and _is_missing_something(trace, report.channel, each)
        for each in trace.losses
    )


def _is_missing_something(trace: Trace, channel: str, since: Interval) -> bool:
    """Whether Redis had, or may have had, something of a channel then that is not in its log at the end."""
    logged = trace.logged.get(channel, {})
    ids = {id_ for several in logged.values() for id_ in several}
    acknowledged = (
        each.id not in ids and each.published_at >= since.begin and each.asked_at <= since.end
        for each in trace.publications
        if each.channel == channel
    )
    perhaps = (
        each.outcome is Outcome.MAYBE_SENT and each.number not in logged
        for each in trace.attempts
        if each.channel == channel and since.begin <= each.asked_at <= since.end
    )
    arrived = (
        each.id not in ids and each.at >= since.begin
        for device in trace.devices
        for session in device.sessions
        for each in session.arrivals
        if each.channel == channel
    )
    return any(acknowledged) or any(perhaps) or any(arrived)
