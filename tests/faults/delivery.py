"""At least once, in order, and repeated only around a break."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from tests.faults.allowance import Allowance
from tests.faults.trace import Arrival, Device, Outcome, Publication, Session, Trace
from tests.faults.trimming import untold_and_invented


@dataclass(frozen=True)
class Published:
    """What was published in each channel: ``all`` by number, and what is ``due`` to listeners, which is all but what was taken out on purpose."""

    all: dict[str, dict[int, Publication]]
    due: dict[str, list[Publication]]

    @classmethod
    def of(cls, trace: Trace) -> Published:
        """Look through a trace."""
        removed = {(each.channel, each.number) for each in trace.removals}
        every: dict[str, dict[int, Publication]] = defaultdict(dict)
        due: dict[str, list[Publication]] = defaultdict(list)
        for each in trace.publications:
            every[each.channel][each.number] = each
        for channel, numbers in every.items():
            due[channel] = [p for p in numbers.values() if (channel, p.number) not in removed]
        return cls(every, due)


def delivered_wrongly(trace: Trace, allowance: Allowance) -> Iterator[str]:
    """Whatever did not arrive as it must."""
    published = Published.of(trace)
    yield from _undelivered(trace, published, allowance)
    for device in trace.devices:
        yield from _mute(trace, device, published, allowance)
        for channel in device.channels:
            yield from _unknown(trace, device, channel, published, allowance)
            yield from _disordered(trace, device, channel, published, allowance)
            yield from _repeated_without_cause(trace, device, channel, allowance)
            if channel in trace.short and not allowance.losses:
                yield from untold_and_invented(trace, device, channel, allowance.repeat_seconds)
            if channel not in trace.short:
                for session in device.sessions:
                    yield from _interrupted(trace, device, session, channel, published, allowance)


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
        if channel in trace.short:
            continue
        received = {each.number for device in devices for each in arrivals(device, channel)}
        reported = [
            report.at
            for device in devices
            for session in device.sessions
            for report in session.reports
            if report.channel == channel
        ]
        for publication in published.due[channel]:
            number = publication.number
            if number in received:
                continue
            told = any(at >= publication.asked_at for at in reported)
            told = told or _nobody_knows(trace, publication, devices)
            if not _is_excused(trace, publication, allowance, told=told):
                without = "" if reported else ", and nobody was told"
                yield f"lost: {channel} #{number} never reached {user}{without}, published at {publication.asked_at:.2f}"


def _mute(
    trace: Trace, device: Device, published: Published, allowance: Allowance
) -> Iterator[str]:
    """Who is connected at the end has everything since its subscribe was answered, device by device.

    Before that, what another device of the user's has confirmed need not come; nor need what a Redis has lost with its data.
    """
    kept_since = max((each.end for each in trace.outages), default=inf) if allowance.losses else 0.0
    open_ones = [s for s in device.sessions if s.lasted_until(trace.ended_at) >= trace.ended_at]
    for session in open_ones:
        received = {each.id for each in session.arrivals}
        for channel, answered_at in session.answered.items():
            for each in published.due[channel]:
                if each.asked_at <= max(answered_at, kept_since) or each.id in received:
                    continue
                if channel not in trace.short and not trace.lost_on_purpose(each):
                    yield (
                        f"mute: {device.name} never had {channel} #{each.number}, "
                        f"published at {each.asked_at:.2f}"
                    )


def _is_excused(
    trace: Trace, publication: Publication, allowance: Allowance, *, told: bool
) -> bool:
    """Whether a message may be missing.

    What a primary took without its replica, that replica knows nothing of: neither the message nor that
    anybody had confirmed it. So nobody need be told. What the replica has must arrive.
    """
    return (allowance.losses and told) or trace.lost_on_purpose(publication)


def _nobody_knows(trace: Trace, publication: Publication, devices: list[Device]) -> bool:
    """Whether a Redis without its data came back after a message was published, and the user was not subscribed all the while.

    What it lost told who is owed what. Beyond that only nodes know, of those who are subscribed there, so nobody can tell
    this user; whoever was subscribed must be told, and what is published afterwards must arrive.
    """
    return any(
        publication.asked_at <= outage.end
        and not any(each.heard_throughout(publication.channel, outage) for each in devices)
        for outage in trace.outages
    )


def _audience(trace: Trace) -> dict[tuple[str, str], list[Device]]:
    audience: dict[tuple[str, str], list[Device]] = defaultdict(list)
    for device in trace.devices:
        for channel in device.channels:
            audience[device.user, channel].append(device)
    return audience


def _interrupted(
    trace: Trace,
    device: Device,
    session: Session,
    channel: str,
    published: Published,
    allowance: Allowance,
) -> Iterator[str]:
    """What one connection receives has no gap: a client cannot see one."""
    ids = [each.id for each in session.arrivals if each.channel == channel]
    if not ids:
        return
    first, last, received = ids[0], ids[-1], set(ids)
    missing = [p for p in published.due[channel] if first < p.id < last and p.id not in received]
    reported = [report.at for report in session.reports if report.channel == channel]
    for publication in missing:
        told = any(at >= publication.asked_at for at in reported)
        if not _is_excused(trace, publication, allowance, told=told):
            yield (
                f"gap: {device.name} did not get {channel} #{publication.number} on a connection "
                f"that went on, published at {publication.asked_at:.2f}"
            )


def _unknown(
    trace: Trace, device: Device, channel: str, published: Published, allowance: Allowance
) -> Iterator[str]:
    """What arrives was published, once, and says so truly."""
    if allowance.losses:
        return
    maybe = {
        a.number for a in trace.attempts if (a.channel, a.outcome) == (channel, Outcome.MAYBE_SENT)
    } | {plan.number for plan in trace.plans if plan.channel == channel}
    for each in arrivals(device, channel):
        publication = published.all[channel].get(each.number)
        if each.number in maybe or (publication and trace.in_question(publication)):
            continue
        if publication is None:
            yield f"unknown: {device.name} got {channel} #{each.number}, which nobody published"
        elif publication.id != each.id:
            yield (
                f"published twice: {device.name} got {channel} #{each.number} as {each.id}, "
                f"the publisher was told {publication.id}"
            )


# -- in order, and repeated only around a break -----------------------------------------------


def _disordered(
    trace: Trace, device: Device, channel: str, published: Published, allowance: Allowance
) -> Iterator[str]:
    """In order once repeated ids are taken away; within a connection nothing repeats at all.

    A client that is told that Redis has lost messages forgets what it knows, and may be sent all anew.
    """
    forgets = _forgetting(trace, device, channel, allowance)
    for session in device.sessions:
        received: set[int] = set()
        highest, since = 0, session.opened_at
        for each in session.arrivals:
            if each.channel != channel:
                continue
            if any(since <= at <= each.at for at in forgets):
                received, highest, since = set(), 0, each.at
            if each.id in received:
                yield f"repeated on one connection: {device.name} got {channel} #{each.number} again"
            elif each.id < highest:
                yield f"disordered: {device.name} got {channel} #{each.number} late on a connection"
            received.add(each.id)
            highest = max(highest, each.id)
    planned = any(each.channel == channel for each in trace.plans)
    for before, after in pairwise(_first_of_each(arrivals(device, channel))):
        forgot = any(before.at <= at <= after.at for at in forgets)
        if forgot or _fell_back(trace, device, before, after, allowance.repeat_seconds):
            continue
        again = published.all[channel].get(after.number)
        twice = again is not None and (allowance.losses or trace.in_question(again))
        falls = after.number <= before.number and not planned
        if after.id < before.id or (falls and not twice):
            yield (
                f"disordered: {device.name} got {channel} #{after.number} ({after.id}) "
                f"after #{before.number} ({before.id})"
            )


def _fell_back(
    trace: Trace, device: Device, before: Arrival, after: Arrival, confirmed_seconds: float
) -> bool:
    """Whether Redis lost on purpose that the user had ``before``, and the connection broke that could have told of it.

    Then a user's device may be sent what it did not have, though another one of theirs had.
    """
    broke = any(
        before.at <= session.lasted_until(trace.ended_at) <= after.at for session in device.sessions
    )
    return broke and any(
        each.begin - confirmed_seconds <= before.at <= each.end for each in trace.losses
    )


def _forgetting(trace: Trace, device: Device, channel: str, allowance: Allowance) -> list[float]:
    """When the device was told that Redis has lost messages of a channel."""
    return [
        report.at
        for session in device.sessions
        for report in session.reports
        if report.channel == channel
        if allowance.losses or any(each.begin <= report.at for each in trace.losses)
    ]


def _first_of_each(several: Iterable[Arrival]) -> list[Arrival]:
    firsts: dict[int, Arrival] = {}
    for each in several:
        firsts.setdefault(each.id, each)
    return list(firsts.values())


def _repeated_without_cause(
    trace: Trace, device: Device, channel: str, allowance: Allowance
) -> Iterator[str]:
    """A message repeats only when the connection it came on broke before it could be confirmed."""
    forgets = _forgetting(trace, device, channel, allowance)
    last: dict[int, tuple[Arrival, Session]] = {}
    for session in device.sessions:
        for each in session.arrivals:
            if each.channel != channel:
                continue
            before, last[each.id] = last.get(each.id), (each, session)
            if before is not None and before[1] is not session:
                earlier, broken = before
                if any(earlier.at <= at <= each.at for at in forgets):
                    continue
                broke_at = broken.lasted_until(trace.ended_at)
                waited = broke_at - earlier.at
                waited -= sum(o.overlap(earlier.at, broke_at) for o in trace.outages)
                if waited > allowance.repeat_seconds:
                    yield (
                        f"repeated without cause: {device.name} got {channel} #{each.number} again, "
                        f"{waited:.1f} s before a break the first time"
                    )
