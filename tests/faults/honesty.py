"""What the publisher library says of a publish is true: sent, not sent, or perhaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.trace import Attempt, Outcome, Trace


def dishonest(trace: Trace) -> Iterator[str]:
    """Each publish of which the library said what is not so.

    What was sent is in the log under the id that was told; what was not sent is nowhere; what may have
    been sent is there once or not at all.
    """
    seen = _seen(trace)
    for attempt in trace.attempts:
        ids = seen[attempt.channel, attempt.number]
        what = f"{attempt.channel} #{attempt.number}"
        if attempt.outcome is Outcome.NOT_SENT and ids:
            yield f"dishonest: {what} was called not sent, and is there as {sorted(ids)}"
        if len(ids) > 1 and not trace.losing(attempt.asked_at, attempt.asked_at):
            yield f"dishonest: {what} was published once, and is there as {sorted(ids)}"
        if attempt.outcome is Outcome.SENT and _is_missing(trace, attempt):
            yield f"dishonest: {what} was called sent as {attempt.id}, and is not in the log"
    for each in trace.publications:
        if each.duplicate and not each.unsure and not trace.in_question(each):
            yield (
                f"dishonest: {each.channel} #{each.number} was already there, and no call before "
                "had said that it may have been sent"
            )


def _seen(trace: Trace) -> dict[tuple[str, int], set[int]]:
    """The ids under which each number was in a log at the end, or came to anybody."""
    seen: dict[tuple[str, int], set[int]] = defaultdict(set)
    for channel, numbers in trace.logged.items():
        for number, ids in numbers.items():
            seen[channel, number].update(ids)
    for device in trace.devices:
        for session in device.sessions:
            for each in session.arrivals:
                seen[each.channel, each.number].add(each.id)
    return seen


def _is_missing(trace: Trace, attempt: Attempt) -> bool:
    if attempt.channel not in trace.logged or attempt.channel in trace.short:
        return False
    if any(
        attempt.asked_at <= each.end and attempt.asked_at >= each.begin - 5 for each in trace.losses
    ):
        return False
    return attempt.id not in trace.logged[attempt.channel].get(attempt.number, ())
