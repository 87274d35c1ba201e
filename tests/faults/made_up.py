"""A made-up trace in which all is well, and what can be made wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from publisher import Retention
from tests.faults.trace import (
    AccessChange,
    Arrival,
    Attempt,
    Device,
    Ending,
    Interval,
    KeyLeft,
    LogLine,
    LossReport,
    Occurrence,
    Outcome,
    Publication,
    Readiness,
    Rejection,
    Session,
    Token,
    Trace,
)

CHANNEL = "notifications/ann"
PUBLISHED = 9
BREAK_AT = 6.5


def arrival(number: int, at: float | None = None) -> Arrival:
    """Message ``number`` is published at second ``number``, and arrives a tenth later."""
    return Arrival(number + 0.1 if at is None else at, CHANNEL, 1_000 + number, number)


def good() -> Trace:
    """Nine messages; the connection breaks after the sixth, which comes again with the seventh."""
    first = Session(0.0, BREAK_AT, 1006, [arrival(n) for n in range(1, 7)])
    again = [arrival(6, 7.6), arrival(7, 7.6), *(arrival(n) for n in range(8, PUBLISHED + 1))]
    device = Device(
        "ann", "phone", (CHANNEL,), [first, Session(7.5, arrivals=again, answered={CHANNEL: 7.6})]
    )
    return Trace(
        [Publication(CHANNEL, n, 1_000 + n, n, n + 0.05) for n in range(1, PUBLISHED + 1)],
        [device],
        ended_at=20.0,
    )


Edit = Callable[[Trace], object]


def first(trace: Trace) -> list[Arrival]:
    return trace.devices[0].sessions[0].arrivals


def second(trace: Trace) -> list[Arrival]:
    return trace.devices[0].sessions[1].arrivals


def swap(arrivals: list[Arrival], one: int, other: int) -> None:
    arrivals[one], arrivals[other] = arrivals[other], arrivals[one]


def sixth_device(trace: Trace, *, seconds: float) -> None:
    for number in range(5):
        session = Session(10.0, 10.0 + seconds, arrivals=[])
        trace.devices.append(Device("ann", f"tab {number}", (CHANNEL,), [session]))


def report(trace: Trace, at: float, session: int = 1) -> None:
    trace.devices[0].sessions[session].reports.append(LossReport(at, CHANNEL))


def gap(trace: Trace, number: int) -> None:
    """Everything from ``number`` to the sixth message, which came again, is gone."""
    trace.devices[0].sessions[0].ended_at = number - 0.5
    del first(trace)[number - 1 :], second(trace)[0]


def settle_in(trace: Trace) -> None:
    """What came before the break has long been confirmed."""
    del second(trace)[0]
    trace.devices[0].sessions[0].ended_at = BREAK_AT + 5
    trace.devices[0].sessions[1].opened_at = BREAK_AT + 6


def revoke(trace: Trace, at: float, again: float | None) -> None:
    """The user has access but from ``at`` until ``again``."""
    changes = [(True, 0.0), (False, at), *([] if again is None else [(True, again)])]
    for allowed, when in changes:
        trace.access.append(AccessChange(CHANNEL, "ann", allowed, when, when))


TOKEN = Token("t1", 100.0)


def end(trace: Trace, at: float, ended_as: str = "", **what: Any) -> None:
    """A backend ends the user's connections or tokens; the second connection has the same token as the first."""
    for session, asked_at in zip(trace.devices[0].sessions, (-0.1, 7.4), strict=True):
        session.asked_at, session.token = asked_at, TOKEN
    trace.devices[0].sessions[0].ended_as = ended_as
    trace.endings.append(Ending("ann", at, at, **what))


def comes_with_another_token(trace: Trace) -> None:
    trace.devices[0].sessions[1].token = Token("t2", 200.0)


def rejected(trace: Trace, at: float) -> None:
    trace.devices[0].rejections.append(Rejection(at, TOKEN))


def attempt(trace: Trace, number: int, outcome: Outcome) -> None:
    id_ = 1_000 + number if outcome is Outcome.SENT else 0
    trace.attempts.append(Attempt(CHANNEL, number, number, outcome, id_))


def logged(trace: Trace, number: int, *ids: int) -> None:
    trace.logged.setdefault(CHANNEL, {})[number] = list(ids)


def edit_publication(trace: Trace, number: int, **changes: bool) -> None:
    trace.publications[number - 1] = trace.publications[number - 1]._replace(**changes)


def short(trace: Trace, kept: int, seconds: int = 86_400) -> None:
    trace.short[CHANNEL] = Retention(max_messages=kept, max_age_seconds=seconds)
    trace.devices[0].sessions[0].answered[CHANNEL] = 0.6


def lost_on_purpose(trace: Trace, begin: float, end: float) -> None:
    trace.losses.append(Interval(begin, end))


def anew(trace: Trace) -> None:
    """The second connection is sent everything once more."""
    second(trace).extend([arrival(n, 10.0) for n in range(6, PUBLISHED + 1)])


def another_had(trace: Trace) -> None:
    """Another device of the user's has the first five in time; this one has the sixth, and the fifth after its break."""
    *others, _ = first(trace)
    del first(trace)[:-1]
    trace.devices.append(Device("ann", "tab", (CHANNEL,), [Session(0, 5.5, arrivals=others)]))
    second(trace).insert(0, others[-1]._replace(at=7.6))


def left(trace: Trace, name: str, kind: str, ttl: int, *members: str) -> None:
    trace.keys_left.append(KeyLeft(name, kind, ttl, members))


OOM = "redis_error reason=OOM command not allowed"


def log(trace: Trace, level: str, text: str) -> None:
    trace.log_lines.append(LogLine(5.0, "node 0", level, f"gateway.x {text}"))


def fault(trace: Trace, name: str, begin: float, end: float, node: int = 0) -> None:
    trace.occurrences.append(Occurrence(name, (node,), begin, end, end))


def ready(trace: Trace, until: float, again: float) -> None:
    """Node 0 is not ready between two moments; asked twice a second."""
    for at in (each / 2 for each in range(40)):
        trace.readiness.append(Readiness(0, at, at + 0.01, not until < at < again))
