"""The figures of a trace."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.delivery import arrivals
from tests.faults.trace import Trace


@dataclass(frozen=True)
class Summary:
    """``delivered`` and ``repeated`` count messages that came to devices, ``reported`` how often a client was
    told of a loss. ``longest_wait`` is how many seconds it took at most from a publish until the message had
    reached each user.
    """

    published: int
    delivered: int
    repeated: int
    reported: int
    longest_wait: float
    breaks: int
    reloads: int
    scheduled: int = 0
    cancelled: int = 0
    removed: int = 0
    events: int = 0


def summary(trace: Trace) -> Summary:
    """Count what happened."""
    delivered = repeated = 0
    first: dict[tuple[str, str], dict[int, float]] = {}
    for device in trace.devices:
        for channel in device.channels:
            reached = first.setdefault((device.user, channel), {})
            ids: set[int] = set()
            for each in arrivals(device, channel):
                delivered += 1
                repeated += each.id in ids
                ids.add(each.id)
                reached[each.number] = min(each.at, reached.get(each.number, each.at))
    longest = 0.0
    for (_, channel), reached in first.items():
        for each in trace.publications:
            if each.channel == channel and each.number in reached:
                longest = max(longest, reached[each.number] - each.published_at)
    sessions = [session for device in trace.devices for session in device.sessions]
    return Summary(
        published=len(trace.publications),
        delivered=delivered,
        repeated=repeated,
        reported=sum(len(session.reports) for session in sessions),
        longest_wait=longest,
        reloads=sum(device.reloads for device in trace.devices),
        scheduled=len(trace.plans),
        cancelled=sum(each.cancelled for each in trace.plans),
        removed=len(trace.removals),
        events=len(trace.events),
        breaks=sum(s.ended_at is not None and s.ended_at < trace.ended_at for s in sessions),
    )
