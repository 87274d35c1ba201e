"""Channels whose log keeps messages in small number, or not for long: a loss is told exactly when there is one."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.faults.trace import Arrival, Device, LossReport, Outcome, Session, Trace

_PUBLISH_SECONDS: Final = 5.0
"""A publish that has succeeded was asked for no longer ago."""


class _Written(NamedTuple):
    """A message that is, or may be, in the log. ``id`` is 0 where nobody knows it."""

    number: int
    asked_at: float
    id: int


def untold_and_invented(
    trace: Trace, device: Device, channel: str, repeat_seconds: float
) -> Iterator[str]:
    """Losses that were not told, and what was told and is none, for a user with a single device."""
    written = sorted(
        [_Written(p.number, p.asked_at, p.id) for p in trace.publications if p.channel == channel]
        + [
            _Written(a.number, a.asked_at, 0)
            for a in trace.attempts
            if a.channel == channel and a.outcome is Outcome.MAYBE_SENT
        ]
    )
    firsts = _first_arrivals(device, channel)
    yield from _silent_losses(trace, device, channel, written, firsts)
    yield from _inventions(trace, device, channel, written, repeat_seconds)


def _first_arrivals(device: Device, channel: str) -> list[Arrival]:
    firsts: dict[int, Arrival] = {}
    for session in device.sessions:
        for each in session.arrivals:
            if each.channel == channel:
                firsts.setdefault(each.number, each)
    return sorted(firsts.values(), key=lambda each: each.number)


def _reports(device: Device, channel: str) -> list[LossReport]:
    return [r for s in device.sessions for r in s.reports if r.channel == channel]


def _silent_losses(
    trace: Trace, device: Device, channel: str, written: list[_Written], firsts: list[Arrival]
) -> Iterator[str]:
    """Each hole between two messages must have been trimmed, and told before the later one came."""
    told = [report.at for report in _reports(device, channel)]
    have = {each.number for each in firsts}
    known = [each for each in written if each.id]
    for each in known:
        if each.number in have:
            continue
        place = bisect(firsts, each.number, key=lambda arrival: arrival.number)
        before = firsts[place - 1] if place else None
        after = firsts[place] if place < len(firsts) else None
        kept = each.id in trace.logged.get(channel, {}).get(each.number, ())
        if after is None and _lost_by_redis(trace, each.asked_at) and not kept:
            continue
        if after is None:
            yield f"lost: {device.name} never had {channel} #{each.number}, nor anything newer"
        elif before is None or _lost_by_redis(trace, each.asked_at):
            continue  # a newcomer to the channel; or judged with all other channels
        elif not _is_trimmed(trace, channel, written, each, after.at):
            yield f"lost: {device.name} never had {channel} #{each.number}, which was in the log"
        elif not any(before.at <= at <= after.at for at in told):
            yield f"lost: {device.name} never had {channel} #{each.number}, and was not told"


def _lost_by_redis(trace: Trace, asked_at: float) -> bool:
    return any(each.begin - _PUBLISH_SECONDS <= asked_at <= each.end for each in trace.losses)


def _is_trimmed(
    trace: Trace, channel: str, written: list[_Written], each: _Written, by: float
) -> bool:
    """Whether a message may have been trimmed by then, because of newer ones or of its age."""
    kept = trace.short[channel]
    newer = sum(other.number > each.number and other.asked_at <= by for other in written)
    return newer >= kept.max_messages or by - each.asked_at > kept.max_age_seconds - 0.5


def _inventions(
    trace: Trace, device: Device, channel: str, written: list[_Written], repeat_seconds: float
) -> Iterator[str]:
    """Each report must be about a message that was trimmed before it had verifiably arrived."""
    last_told = 0.0
    for session in device.sessions:
        for report in session.reports:
            if report.channel != channel:
                continue
            before = _known_before(trace, device, channel, report.at, repeat_seconds)
            gone = [
                each
                for each in written
                if before.started_at <= each.asked_at <= report.at
                and each.number not in before.proven
                and each.asked_at > last_told - repeat_seconds
                and _is_trimmed(trace, channel, written, each, report.at)
            ]
            failed_over = any(
                last_told < each.end and each.begin <= report.at for each in trace.losses
            )
            if not gone and not failed_over:
                yield f"false alarm: {device.name} was told of a loss in {channel}, and nothing was"
            last_told = report.at


class _Known(NamedTuple):
    started_at: float
    proven: frozenset[int]


def _known_before(
    trace: Trace, device: Device, channel: str, at: float, repeat_seconds: float
) -> _Known:
    """Since when the user is owed the channel's messages, and which had surely been confirmed."""
    started_at, proven = float("inf"), set()
    for session in device.sessions:
        answered_at = session.answered.get(channel, float("inf"))
        if answered_at < at:
            started_at = min(started_at, answered_at)
        for each in session.arrivals:
            if (
                each.channel == channel
                and each.at < at
                and _had_time(trace, session, each, repeat_seconds)
            ):
                proven.add(each.number)
    return _Known(started_at, frozenset(proven))


def _had_time(trace: Trace, session: Session, arrival: Arrival, repeat_seconds: float) -> bool:
    end = session.lasted_until(trace.ended_at)
    lost = sum(each.overlap(arrival.at, end) for each in trace.outages)
    return end - arrival.at - lost > repeat_seconds
