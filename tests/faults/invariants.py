"""What must hold of every trace, whatever was done to the system meanwhile.

Pure functions from a trace to the violations found in it, each a sentence that names who, what and when.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.faults.trace import Arrival, Device, Publication, Session, Trace

MAX_CONNECTIONS: Final = 5
_SHOWN: Final = 30


@dataclass(frozen=True)
class Allowance:
    """What a scenario's faults excuse.

    ``losses``: Redis lost its data, so messages may be gone, if that is reported, and a publish that
    was tried again may have made a second copy. ``repeat_seconds``: what arrived so long before a
    break may not have been confirmed. ``limit_seconds``: a client may learn of its end so much later
    than the node that has given its place to another. ``evictions``: a node was away for so long that
    its users' places went to others, and has to close what is too many.
    """

    losses: bool = False
    repeat_seconds: float = 4.0
    limit_seconds: float = 0.5
    evictions: bool = False


STRICT: Final = Allowance()

Published = dict[str, dict[int, Publication]]
"""By channel, then number."""


def violations(trace: Trace, allowance: Allowance = STRICT) -> list[str]:
    """Everything in ``trace`` that must not be; empty when all is well."""
    published = _by_number(trace)
    found = [
        *_undelivered(trace, published, allowance),
        *_above_the_limit(trace, allowance),
    ]
    for device in trace.devices:
        found += _misbehaved(device, allowance)
        found += _mute(trace, device, published, allowance)
        for channel in device.channels:
            found += _unknown(device, channel, published, allowance)
            found += _disordered(device, channel, allowance)
            found += _repeated_without_cause(trace, device, channel, allowance)
            for session in device.sessions:
                found += _interrupted(device, session, channel, published, allowance)
    return found


def require(trace: Trace, allowance: Allowance = STRICT) -> None:
    """Fail when anything is in ``trace`` that must not be.

    Raises:
        AssertionError: it tells what, up to a screenful.
    """
    found = violations(trace, allowance)
    if found:
        raise AssertionError("\n".join([f"{len(found)} violations", *found[:_SHOWN]]))


def _by_number(trace: Trace) -> Published:
    published: Published = defaultdict(dict)
    for each in trace.publications:
        published[each.channel][each.number] = each
    return published


def arrivals(device: Device, channel: str) -> Iterator[Arrival]:
    """What came to a device in a channel, in the order in which it came."""
    for session in device.sessions:
        for each in session.arrivals:
            if each.channel == channel:
                yield each


# -- at least once ----------------------------------------------------------------------------


def _undelivered(trace: Trace, published: Published, allowance: Allowance) -> Iterator[str]:
    """Every message reaches each user who listens, on one device at least."""
    for (user, channel), devices in _audience(trace).items():
        received = {each.number for device in devices for each in arrivals(device, channel)}
        reported = [
            report.at
            for device in devices
            for session in device.sessions
            for report in session.reports
            if report.channel == channel
        ]
        for number, publication in published[channel].items():
            if number in received:
                continue
            excused = allowance.losses and any(at >= publication.asked_at for at in reported)
            if not excused:
                without = "" if reported else ", and nobody was told"
                yield f"lost: {channel} #{number} never reached {user}{without}"


def _mute(
    trace: Trace, device: Device, published: Published, allowance: Allowance
) -> Iterator[str]:
    """Who is connected at the end has everything since its subscribe was answered, device by device.

    Before that, what another device of the user's has confirmed need not come.
    """
    open_ones = [s for s in device.sessions if s.lasted_until(trace.ended_at) >= trace.ended_at]
    for session in () if allowance.losses else open_ones:
        received = {each.id for each in session.arrivals}
        for channel, answered_at in session.answered.items():
            for each in published[channel].values():
                if each.asked_at > answered_at and each.id not in received:
                    yield f"mute: {device.name} never had {channel} #{each.number}"


def _audience(trace: Trace) -> dict[tuple[str, str], list[Device]]:
    audience: dict[tuple[str, str], list[Device]] = defaultdict(list)
    for device in trace.devices:
        for channel in device.channels:
            audience[device.user, channel].append(device)
    return audience


def _interrupted(
    device: Device, session: Session, channel: str, published: Published, allowance: Allowance
) -> Iterator[str]:
    """What one connection receives has no gap: a client cannot see one."""
    ids = [each.id for each in session.arrivals if each.channel == channel]
    if not ids:
        return
    first, last, received = ids[0], ids[-1], set(ids)
    between = [p for p in published[channel].values() if first < p.id < last]
    missing = [p for p in between if p.id not in received]
    reported = [report.at for report in session.reports if report.channel == channel]
    for publication in missing:
        if allowance.losses and any(at >= publication.asked_at for at in reported):
            continue
        yield f"gap: {device.name} did not get {channel} #{publication.number} on a connection that went on"


def _unknown(
    device: Device, channel: str, published: Published, allowance: Allowance
) -> Iterator[str]:
    """What arrives was published, once, and says so truly."""
    if allowance.losses:
        return
    for each in arrivals(device, channel):
        publication = published[channel].get(each.number)
        if publication is None:
            yield f"unknown: {device.name} got {channel} #{each.number}, which nobody published"
        elif publication.id != each.id:
            yield (
                f"published twice: {device.name} got {channel} #{each.number} as {each.id}, "
                f"the publisher was told {publication.id}"
            )


# -- in order, and repeated only around a break -----------------------------------------------


def _disordered(device: Device, channel: str, allowance: Allowance) -> Iterator[str]:
    """In order once repeated ids are taken away; within a connection nothing repeats at all."""
    for session in device.sessions:
        received: set[int] = set()
        highest = 0
        for each in session.arrivals:
            if each.channel != channel:
                continue
            if each.id in received:
                yield f"repeated on one connection: {device.name} got {channel} #{each.number} again"
            elif each.id < highest:
                yield f"disordered: {device.name} got {channel} #{each.number} late on a connection"
            received.add(each.id)
            highest = max(highest, each.id)
    for before, after in pairwise(_first_of_each(arrivals(device, channel))):
        if after.id < before.id or (after.number <= before.number and not allowance.losses):
            yield (
                f"disordered: {device.name} got {channel} #{after.number} ({after.id}) "
                f"after #{before.number} ({before.id})"
            )


def _first_of_each(several: Iterable[Arrival]) -> list[Arrival]:
    firsts: dict[int, Arrival] = {}
    for each in several:
        firsts.setdefault(each.id, each)
    return list(firsts.values())


def _repeated_without_cause(
    trace: Trace, device: Device, channel: str, allowance: Allowance
) -> Iterator[str]:
    """A message repeats only when the connection it came on broke before it could be confirmed."""
    last: dict[int, tuple[Arrival, Session]] = {}
    for session in device.sessions:
        for each in session.arrivals:
            if each.channel != channel:
                continue
            before = last.get(each.id)
            if before is not None and before[1] is not session:
                earlier, broken = before
                broke_at = broken.lasted_until(trace.ended_at)
                waited = broke_at - earlier.at
                waited -= sum(o.overlap(earlier.at, broke_at) for o in trace.outages)
                if waited > allowance.repeat_seconds:
                    yield (
                        f"repeated without cause: {device.name} got {channel} #{each.number} again, "
                        f"{waited:.1f} s before a break the first time"
                    )
            last[each.id] = each, session


# -- the limit, and good manners --------------------------------------------------------------


def _above_the_limit(trace: Trace, allowance: Allowance) -> Iterator[str]:
    """No user holds more places than five, in Redis never, as clients see it for no longer than a moment."""
    for sample in trace.places:
        if sample.count > MAX_CONNECTIONS:
            yield f"limit: {sample.user} held {sample.count} places at {sample.at:.2f}"
    for user in {device.user for device in trace.devices}:
        for begin, end in too_many(trace, user):
            if end - begin > allowance.limit_seconds:
                yield f"limit: {user} had too many connections for {end - begin:.1f} s, from {begin:.2f}"


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


def _misbehaved(device: Device, allowance: Allowance) -> Iterator[str]:
    """Nobody is told of a loss that was none, nor of a mistake they did not make."""
    if device.gave_up:
        yield f"gave up: {device.name} found nobody to let it in"
    for session in device.sessions:
        for error in session.errors:
            if error == "connection_limit" and allowance.evictions:
                continue
            yield f"error: {device.name} was told {error}"
        if not allowance.losses:
            for report in session.reports:
                yield f"false alarm: {device.name} was told of a loss in {report.channel}"
