"""The checker finds what is wrong with what is scheduled, removed, confirmed, and told of users; and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.attendance import LEFT
from tests.faults.invariants import violations
from tests.faults.made_up import (
    CHANNEL,
    Edit,
    fault,
    first,
    good,
    logged,
    lost_on_purpose,
    second,
)
from tests.faults.trace import (
    Arrival,
    Confirmation,
    Device,
    Interval,
    Plan,
    Present,
    Removal,
    Session,
    Told,
    Trace,
    moment_of,
)

LATER = "run-results/later"
ROOM = "rooms/1"
DUE = 10.0


def id_at(at: float) -> int:
    return round((at - moment_of(0)) * 1e6)


def plan(trace: Trace, *published_at: float, **cancelled: object) -> None:
    """Message 1 is to be published at ``DUE``."""
    trace.plans.append(Plan(LATER, 1, DUE, 8.0, 8.1, "p", **cancelled))  # type: ignore[arg-type]
    trace.logged[LATER] = {1: [id_at(at) for at in published_at]} if published_at else {}


def cancel(trace: Trace, *published_at: float) -> None:
    plan(trace, *published_at, cancel_asked_at=9.0, cancel_done_at=9.1, cancelled=True)


def hear(trace: Trace, at: float) -> None:
    session = Session(0.0, arrivals=[Arrival(at, LATER, id_at(at), 1)], answered={LATER: 0.1})
    trace.devices.append(Device("liz", "liz's", (LATER,), [session]))


def remove(trace: Trace, number: int, how: str, at: float, *, heard: bool = False) -> None:
    """A message is taken out at a moment; only the first connection has heard it, if any."""
    trace.removals.append(Removal(CHANNEL, number, how, at, at))
    for arrivals in (first(trace), second(trace)):
        keep = [each for each in arrivals if heard or each.number != number]
        arrivals[:] = keep
    for session in trace.devices[0].sessions:
        session.asked_at = session.opened_at
        session.answered[CHANNEL] = session.opened_at


def confirm(trace: Trace, user: str, number: int, at: float) -> None:
    trace.confirmations.append(Confirmation(CHANNEL, number, 1_000 + number, (user,), at))


def stay(trace: Trace, *spells: tuple[float, float]) -> None:
    """Somebody is in the room for some spells."""
    sessions = [Session(begin, end, answered={ROOM: begin}, ended_as=LEFT) for begin, end in spells]
    trace.devices.append(Device("jon", "jon's", (ROOM,), sessions))


def seen(trace: Trace, at: float, *users: str, settled: bool = False) -> None:
    trace.present.append(Present(ROOM, frozenset(users), at, at + 0.01, settled))


def told(trace: Trace, *events: str, node: str = "n") -> None:
    """Events at seconds 1, 2, ...: ``+c`` and ``-c`` for the beginning and the end of a connection, ``!`` for first or last."""
    for at, each in enumerate(events, 1):
        kind = "connected" if each[0] == "+" else "disconnected"
        mark = each.endswith("!")
        event = Told(f"{at}-0", at, kind, "ann", node, f"{node}/{each[1]}")
        flags = {"first": mark and kind == "connected", "last": mark and kind != "connected"}
        trace.events.append(event._replace(**flags))
        trace.given.append(event.id)


WELL = ("+a!", "-a!", "+b!", "-b!")
"""Two connections, one after the other: as many as the trace has."""


WRONG: dict[str, tuple[str, Edit]] = {
    # -- scheduled
    "it is never published": ("scheduled", plan),
    "it is published twice": ("scheduled", lambda t: plan(t, 10.1, 10.2)),
    "it is published early": ("scheduled", lambda t: plan(t, 9.9)),
    "it is published late": ("scheduled", lambda t: plan(t, 11.6)),
    "it is published long after an outage": (
        "scheduled",
        lambda t: (t.outages.append(Interval(9, 15)), plan(t, 16.6)),
    ),
    "what was cancelled is published": ("scheduled", lambda t: cancel(t, 10.1)),
    "what was cancelled arrives": ("scheduled", lambda t: (cancel(t), hear(t, 10.1))),
    "what was cancelled before Redis lost anything is published": (
        "scheduled",
        lambda t: (lost_on_purpose(t, 9.5, 9.9), cancel(t, 10.1)),
    ),
    # -- removed
    "what was deleted comes to somebody who connects later": (
        "removed",
        lambda t: remove(t, 6, "deleted", 6.8, heard=True),
    ),
    "what has expired comes to somebody who connects later": (
        "removed",
        lambda t: remove(t, 6, "expired", 7.4, heard=True),
    ),
    "what was deleted is in the log": (
        "removed",
        lambda t: (remove(t, 3, "deleted", 3.2), logged(t, 3, 1_003)),
    ),
    "what was there for long did not arrive": ("removed", lambda t: remove(t, 3, "collapsed", 5.0)),
    # -- receipts
    "a user is said to have what never came": ("receipt", lambda t: confirm(t, "ben", 3, 9.0)),
    "a user is said to have it too early": ("receipt", lambda t: confirm(t, "ann", 3, 3.05)),
    # -- presence
    "who was never there is": ("presence", lambda t: (stay(t, (1, 5)), seen(t, 3, "eve"))),
    "who has left is there": ("presence", lambda t: (stay(t, (1, 5)), seen(t, 6.5, "jon"))),
    "who was at a dead node is there after its lease": (
        "presence",
        lambda t: (
            t.killed.update(n=5),
            fault(t, "node_killed", 5, 7),
            stay(t, (1, 5)),
            seen(t, 16.5, "jon"),
        ),
    ),
    "who is there is not": ("presence", lambda t: (stay(t, (1, 9)), seen(t, 5))),
    "who is there is not, long after an outage": (
        "presence",
        lambda t: (fault(t, "redis_hangs", 1, 3), stay(t, (1, 9)), seen(t, 7)),
    ),
    "it does not settle": ("presence", lambda t: (stay(t, (1, 20)), seen(t, 19, "jon", settled=True))),
    # -- events
    "an end is not told": ("event", lambda t: told(t, "+a!", "-a!", "+b!")),
    "an end is told twice": ("event", lambda t: told(t, *WELL, "-b!")),
    "a beginning is told twice": ("event", lambda t: told(t, "+a!", "+a", "-a!", "+b!", "-b!")),
    "a connection is not told": ("event", lambda t: told(t, "+a!", "-a!")),
    "a first is not marked": ("event", lambda t: told(t, "+a", "-a!", "+b!", "-b!")),
    "another than the last is marked": ("event", lambda t: told(t, "+a!", "+b", "-a!", "-b!")),
    "the end at a dead node is told late": (
        "event",
        lambda t: (t.killed.update(n=-12), told(t, *WELL)),
    ),
    "an event is not given": ("event", lambda t: (told(t, *WELL), t.given.pop(1))),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "edit"), WRONG.values(), ids=WRONG)
def test_what_must_not_be_is_found(kind: str, edit: Edit) -> None:
    trace = good()
    edit(trace)
    assert any(each.startswith(f"{kind}:") for each in violations(trace)), violations(trace)


FINE: dict[str, Edit] = {
    "it is published in time": lambda t: plan(t, 10.9),
    "it is published soon after an outage": lambda t: (
        t.outages.append(Interval(9, 15)),
        plan(t, 15.9),
    ),
    "its node ends, and another takes over": lambda t: (
        t.outages.append(Interval(9.8, 10.2)),
        plan(t, 13.7),
    ),
    "it is cancelled": cancel,
    "a failover loses that it was cancelled": lambda t: (
        lost_on_purpose(t, 8.9, 9.5),
        cancel(t, 10.1),
    ),
    "a failover loses it": lambda t: (lost_on_purpose(t, 8.0, 9.0), plan(t)),
    "it is being published when it is to be cancelled": lambda t: plan(
        t, 10.1, cancel_asked_at=9.99, cancel_done_at=10.01
    ),
    "what is deleted does not come": lambda t: remove(t, 6, "deleted", 6.6),
    "what is deleted had come before": lambda t: remove(t, 3, "deleted", 3.2, heard=True),
    "what was there for long was there in trouble": lambda t: (
        fault(t, "lines_are_slow", 3, 4),
        remove(t, 3, "collapsed", 5.0),
    ),
    "a user has what they are said to have": lambda t: confirm(t, "ann", 3, 3.2),
    "who is there is": lambda t: (stay(t, (1, 9)), seen(t, 5, "jon")),
    "who has just come is not yet": lambda t: (stay(t, (1, 9)), seen(t, 2.5)),
    "who has just left is still there": lambda t: (stay(t, (1, 5)), seen(t, 5.9, "jon")),
    "who was at a dead node is there for its lease": lambda t: (
        t.killed.update(n=5),
        stay(t, (1, 5)),
        seen(t, 14, "jon"),
    ),
    "who is there is not, just after an outage": lambda t: (
        fault(t, "redis_hangs", 1, 3),
        stay(t, (1, 9)),
        seen(t, 4),
    ),
    "all is told": lambda t: told(t, *WELL),
    "two overlap": lambda t: told(t, "+a!", "+b", "-a", "-b!"),
    "a node stood still, and begins again": lambda t: told(t, *WELL, "+b!", "-b!"),
    "the end at a dead node is told in time": lambda t: (t.killed.update(n=-10), told(t, *WELL)),
    "an event is told after its reader has ended": lambda t: (told(t, *WELL), t.given.pop()),
}


@pytest.mark.parametrize("edit", FINE.values(), ids=FINE)
def test_what_may_be_is_not_found(edit: Edit) -> None:
    trace = good()
    edit(trace)
    assert violations(trace) == []
