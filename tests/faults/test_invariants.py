"""The checker finds what it is there to find, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.invariants import Allowance, require, violations
from tests.faults.summary import summary
from tests.faults.trace import (
    Arrival,
    Device,
    Interval,
    LossReport,
    PlacesHeld,
    Publication,
    Session,
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


def test_a_trace_in_which_all_is_well_has_no_violations() -> None:
    trace = good()
    assert violations(trace) == []
    figures = summary(trace)
    assert (figures.published, figures.delivered, figures.repeated) == (9, 10, 1)
    assert (figures.lost, figures.reported, figures.breaks) == (0, 0, 1)
    assert figures.longest_wait == pytest.approx(0.55)


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


WRONG: dict[str, tuple[str, Edit]] = {
    "the last message does not arrive": ("lost", lambda t: second(t).pop()),
    "a message in the middle does not arrive": ("lost", lambda t: first(t).pop(2)),
    "a connection skips what another had": (
        "gap",
        lambda t: (second(t).insert(0, arrival(4, 7.6)), first(t).pop()),
    ),
    "nothing arrives": ("lost", lambda t: [s.arrivals.clear() for s in t.devices[0].sessions]),
    "two messages change places": ("disordered", lambda t: swap(first(t), 1, 2)),
    "a repeat comes after new messages": ("disordered", lambda t: swap(second(t), 0, 1)),
    "a message comes twice on a connection": (
        "repeated on one connection",
        lambda t: first(t).insert(3, first(t)[2]),
    ),
    "what was long confirmed comes again": (
        "repeated without cause",
        lambda t: second(t).__setitem__(
            slice(0, 1), [arrival(n, 7.6) for n in range(1, 7)]
        ),
    ),
    "a message arrives under another id": (
        "published twice",
        lambda t: second(t).__setitem__(-1, second(t)[-1]._replace(id=2_000)),
    ),
    "what nobody published arrives": (
        "unknown",
        lambda t: second(t).append(Arrival(15.0, CHANNEL, 1_010, 10)),
    ),
    "numbers do not rise with ids": (
        "disordered",
        lambda t: second(t).append(Arrival(15.0, CHANNEL, 1_020, 3)),
    ),
    "one of two devices goes mute": (
        "mute",
        lambda t: t.devices.append(
            Device("ann", "tab", (CHANNEL,), [Session(7.5, answered={CHANNEL: 7.6})])
        ),
    ),
    "six connections are open": ("limit", lambda t: sixth_device(t, seconds=1.0)),
    "six places are held": ("limit", lambda t: t.places.append(PlacesHeld(5.0, "ann", 6))),
    "a loss is reported that was none": ("false alarm", lambda t: report(t, 8.0)),
    "an error is told": (
        "error",
        lambda t: t.devices[0].sessions[0].errors.append("internal_error"),
    ),
    "a client that was let in is put out": (
        "error",
        lambda t: t.devices[0].sessions[0].errors.append("connection_limit"),
    ),
    "a client gives up": ("gave up", lambda t: setattr(t.devices[0], "gave_up", True)),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "edit"), WRONG.values(), ids=WRONG)
def test_what_must_not_be_is_found(kind: str, edit: Edit) -> None:
    trace = good()
    edit(trace)
    assert any(each.startswith(kind) for each in violations(trace)), violations(trace)


def test_a_failure_tells_what_is_wrong() -> None:
    trace = good()
    require(trace)
    second(trace).pop()
    with pytest.raises(AssertionError, match="2 violations\nlost: notifications/ann #9 never"):
        require(trace)


def test_a_moment_above_the_limit_is_the_news_being_on_its_way() -> None:
    trace = good()
    sixth_device(trace, seconds=0.2)
    assert violations(trace) == []


def test_what_one_device_received_need_not_reach_the_other() -> None:
    trace = good()
    moved = second(trace).pop()
    trace.devices[0].sessions[1].ended_at = 8.9
    other = Session(0.0, arrivals=[moved])
    trace.devices.append(Device("ann", "laptop", (CHANNEL,), [other]))
    assert violations(trace) == []


def test_what_another_user_received_does_not_count() -> None:
    trace = good()
    moved = second(trace).pop()
    trace.devices[0].sessions[1].ended_at = 8.9
    other = Session(0.0, arrivals=[moved])
    trace.devices.append(Device("ben", "laptop", (CHANNEL,), [other]))
    assert any("never reached ann" in each for each in violations(trace))


def test_while_nothing_can_be_confirmed_no_time_passes() -> None:
    trace = good()
    second(trace)[:1] = [arrival(n, 7.6) for n in range(1, 7)]
    trace.outages.append(Interval(0.5, BREAK_AT))
    assert violations(trace) == []


@pytest.mark.parametrize(
    ("reported_at", "fine"), [(9.5, True), (3.5, False), (None, False)], ids=str
)
def test_where_redis_lost_its_data_a_loss_must_be_reported_afterwards(
    reported_at: float | None, *, fine: bool
) -> None:
    trace = good()
    second(trace).pop()
    if reported_at is not None:
        report(trace, reported_at)
    assert (violations(trace, Allowance(losses=True)) == []) == fine
    assert violations(trace) != []


def test_a_gap_must_be_reported_on_the_connection_that_has_it() -> None:
    trace = good()
    first(trace).pop(2)
    trace.devices.append(Device("ann", "laptop", (CHANNEL,), [Session(0.0, arrivals=[arrival(3)])]))
    assert [each.split(":")[0] for each in violations(trace, Allowance(losses=True))] == ["gap"]
    report(trace, 4.0, session=0)
    assert violations(trace, Allowance(losses=True)) == []
