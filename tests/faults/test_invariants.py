"""The checker finds what it is there to find, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import UTC, datetime

import pytest

from tests.faults.allowance import Allowance
from tests.faults.invariants import SILENT, require, violations
from tests.faults.logs import EXPLAINED, OwnLog, is_bad, lines
from tests.faults.made_up import (
    BREAK_AT,
    CHANNEL,
    OOM,
    PUBLISHED,
    Edit,
    anew,
    another_had,
    arrival,
    attempt,
    comes_with_another_token,
    edit_publication,
    end,
    fault,
    first,
    gap,
    good,
    left,
    log,
    logged,
    lost_on_purpose,
    ready,
    rejected,
    report,
    revoke,
    second,
    settle_in,
    short,
    sixth_device,
    swap,
)
from tests.faults.mayhem import FAULTS
from tests.faults.summary import summary
from tests.faults.trace import (
    AccessChange,
    Arrival,
    Device,
    Ending,
    Interval,
    Outcome,
    PlacesHeld,
    Session,
)
from tests.faults.turns import CUTTING


def test_a_trace_in_which_all_is_well_has_no_violations() -> None:
    trace = good()
    assert violations(trace) == []
    figures = summary(trace)
    assert (figures.published, figures.delivered, figures.repeated) == (9, 10, 1)
    assert (figures.reported, figures.breaks) == (0, 1)
    assert figures.longest_wait == pytest.approx(0.55)


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
    "a device is sent what another had, and Redis lost nothing then": (
        "disordered",
        lambda t: (lost_on_purpose(t, 12.0, 13.0), another_had(t)),
    ),
    "a device is sent what another had on a connection that went on": (
        "disordered",
        lambda t: (
            lost_on_purpose(t, 7.8, 8.5),
            second(t).insert(2, first(t).pop(4)._replace(at=7.9)),
        ),
    ),
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
    "six connections are open for longer than a node was away": (
        "limit",
        lambda t: (fault(t, "node_frozen", -4, 8), sixth_device(t, seconds=6.0)),
    ),
    "six connections are open for longer than a node was away whose lease was lost": (
        "limit",
        lambda t: (
            fault(t, "node_frozen", 8, 9),
            lost_on_purpose(t, 7.0, 8.5),
            sixth_device(t, seconds=6.0),
        ),
    ),
    "six connections are open while lines are slow": (
        "limit",
        lambda t: (fault(t, "lines_are_slow", 8, 12), sixth_device(t, seconds=2.0)),
    ),
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
    # -- access
    "a revoked user hears": ("overheard", lambda t: revoke(t, 2.0, 6.5)),
    "a user hears whose revocation came before what Redis lost": (
        "overheard",
        lambda t: (lost_on_purpose(t, 2.5, 3.0), revoke(t, 2.0, 6.5)),
    ),
    "a revoked user hears to the end": ("overheard", lambda t: revoke(t, 6.0, None)),
    # -- connections and tokens that are ended
    "who was disconnected hears on": ("overheard", lambda t: end(t, 3.0)),
    "who has a revoked token hears on": ("overheard", lambda t: end(t, 3.0, token="t1")),
    "who has one of the revoked tokens hears on": ("overheard", lambda t: end(t, 3.0, before=150.0)),
    "a revoked token is let in": ("let in", lambda t: end(t, 6.4, token="t1")),
    "one of the revoked tokens is let in": ("let in", lambda t: end(t, 6.4, before=150.0)),
    "a revoked token is let in that was revoked before Redis lost something": (
        "let in",
        lambda t: (lost_on_purpose(t, 6.6, 7.0), end(t, 6.4, token="t1")),
    ),
    "a connection that came later is disconnected": (
        "sent away",
        lambda t: (end(t, -1.0, "disconnected"), comes_with_another_token(t)),
    ),
    "a connection is disconnected when only its token was to end": (
        "sent away",
        lambda t: end(t, 6.4, "disconnected", token="t1"),
    ),
    "a connection ends whose token is not revoked": (
        "sent away",
        lambda t: (end(t, 6.4, "token_revoked", token="t3"), end(t, 6.4, "token_revoked", before=100.0)),
    ),
    "a token is refused that is not revoked": (
        "sent away",
        lambda t: (end(t, 6.4, token="t3"), rejected(t, 6.5)),
    ),
    "a token is refused before it is revoked": (
        "sent away",
        lambda t: (end(t, 6.4, token="t1"), comes_with_another_token(t), rejected(t, 6.3)),
    ),
    # -- what the publisher library says
    "what was not sent arrives": ("dishonest", lambda t: attempt(t, 4, Outcome.NOT_SENT)),
    "what was not sent is in the log": (
        "dishonest",
        lambda t: (attempt(t, 30, Outcome.NOT_SENT), logged(t, 30, 1_030)),
    ),
    "what was sent is not in the log": (
        "dishonest",
        lambda t: (attempt(t, 4, Outcome.SENT), logged(t, 5, 1_005)),
    ),
    "what may have been sent is there twice": (
        "dishonest",
        lambda t: (attempt(t, 30, Outcome.MAYBE_SENT), logged(t, 30, 1_030, 1_031)),
    ),
    "a duplicate of what nobody may have sent": (
        "dishonest",
        lambda t: edit_publication(t, 4, duplicate=True),
    ),
    # -- short logs
    "a hole is not told": ("lost", lambda t: (short(t, 2), second(t).pop(0), first(t).pop(4))),
    "a hole that was retained": ("lost", lambda t: (short(t, 5), gap(t, 4), report(t, 7.55))),
    "a hole that is told too late": ("lost", lambda t: (short(t, 1), gap(t, 4), report(t, 8.0))),
    "the newest is missing": ("lost", lambda t: (short(t, 2), second(t).pop())),
    "a trimmed log, and nothing lost": (
        "false alarm",
        lambda t: (short(t, 2), settle_in(t), report(t, 7.55)),
    ),
    "a newcomer is told of a loss": (
        "false alarm",
        lambda t: (short(t, 2), report(t, 0.5, session=0)),
    ),
    # -- what Redis lost on purpose
    "an older message than Redis lost": (
        "lost",
        lambda t: (lost_on_purpose(t, 6.5, 7.5), gap(t, 4), report(t, 8.0)),
    ),
    "what Redis might have lost and has": (
        "lost",
        lambda t: (lost_on_purpose(t, 8.5, 9.5), logged(t, 9, 1_009), second(t).pop(), report(t, 10.0)),
    ),
    "a loss is told, and the log has everything": (
        "false alarm",
        lambda t: (
            lost_on_purpose(t, 8.5, 9.5),
            [logged(t, n, 1_000 + n) for n in range(1, 10)],
            report(t, 9.9),
        ),
    ),
    "all comes anew before a loss was told": (
        "repeated on one connection",
        lambda t: (lost_on_purpose(t, 8.5, 9.5), anew(t), report(t, 11.0)),
    ),
    # -- what stays in Redis
    "a place": ("leftover", lambda t: left(t, "conn:{ann}", "zset", 9, "n1/3")),
    "a place that no failover has brought back": (
        "leftover",
        lambda t: (lost_on_purpose(t, 1.0, 3.0), left(t, "conn:{ann}", "zset", 9, "n1/3")),
    ),
    "a node's lease": ("leftover", lambda t: left(t, "nodes", "zset", -1, "/beat", "n1")),
    "a log without an end": ("leftover", lambda t: left(t, f"log:{{{CHANNEL}}}", "zset", -1)),
    "an unknown key": ("leftover", lambda t: left(t, "scratch:1", "string", 9)),
    "a key of another type": ("leftover", lambda t: left(t, f"log:{{{CHANNEL}}}", "string", 9)),
    # -- logs
    "an error": ("log", lambda t: log(t, "ERROR", "redis_error reason=OOM command not allowed")),
    "a traceback at another level": (
        "log",
        lambda t: log(t, "WARNING", "oh\\nTraceback (most recent call last):"),
    ),
    "something that is no log line": ("log", lambda t: log(t, "", "Segmentation fault")),
    "a task that nobody waited for": (
        "log",
        lambda t: log(t, "WARNING", "Task exception was never retrieved"),
    ),
    "an error of another fault": (
        "log",
        lambda t: (fault(t, "redis_lacks_replicas", 4, 6), log(t, "ERROR", OOM)),
    ),
    "an error long after its fault": (
        "log",
        lambda t: (fault(t, "redis_is_out_of_memory", -9, -7), log(t, "ERROR", OOM)),
    ),
    "a traceback that ends in an explained error": (
        "log",
        lambda t: (
            fault(t, "redis_is_out_of_memory", 4, 6),
            log(t, "ERROR", f"Traceback (most recent call last): {OOM}"),
        ),
    ),
    # -- readiness
    "ready without a Redis": ("late", lambda t: (fault(t, "redis_hangs", 3, 8), ready(t, 7, 20))),
    "unready for long afterwards": (
        "late",
        lambda t: (fault(t, "redis_hangs", 3, 8), ready(t, 4, 14)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "edit"), WRONG.values(), ids=WRONG)
def test_what_must_not_be_is_found(kind: str, edit: Edit) -> None:
    trace = good()
    edit(trace)
    assert any(each.startswith(kind) for each in violations(trace)), violations(trace)


FINE: dict[str, Edit] = {
    "the news of a revocation is on its way": lambda t: revoke(t, 5.5, 6.9),
    "a revocation that Redis lost on purpose": lambda t: (
        lost_on_purpose(t, 1.5, 2.5),
        revoke(t, 2.0, 6.5),
    ),
    "another user hears": lambda t: t.access.append(AccessChange(CHANNEL, "ben", False, 1.0, 1.0)),
    "who was disconnected comes again": lambda t: end(t, 6.4, "disconnected"),
    "one of several connections is meant": lambda t: end(t, 3.0, only_one=True),
    "who has a revoked token comes again with another": lambda t: (
        end(t, 6.4, "token_revoked", token="t1"),
        rejected(t, 6.6),
        comes_with_another_token(t),
    ),
    "who has one of the revoked tokens comes again with another": lambda t: (
        end(t, 6.4, "token_revoked", before=150.0),
        comes_with_another_token(t),
    ),
    "a token is let in whose revocation Redis lost on purpose": lambda t: (
        lost_on_purpose(t, 6.0, 6.5),
        end(t, 6.4, token="t1"),
    ),
    "another user's tokens are revoked": lambda t: t.endings.append(
        Ending("ben", 1.0, 1.0, before=150.0)
    ),
    "what was not sent is nowhere": lambda t: attempt(t, 30, Outcome.NOT_SENT),
    "what was sent is in the log": lambda t: (attempt(t, 4, Outcome.SENT), logged(t, 4, 1_004)),
    "what may have been sent was not": lambda t: attempt(t, 30, Outcome.MAYBE_SENT),
    "what may have been sent was": lambda t: (
        attempt(t, 30, Outcome.MAYBE_SENT),
        logged(t, 30, 1_030),
    ),
    "a duplicate of what may have been sent": lambda t: edit_publication(
        t, 4, duplicate=True, unsure=True
    ),
    "a hole that is told": lambda t: (short(t, 1), gap(t, 4), report(t, 7.55)),
    "a hole of old messages that is told": lambda t: (short(t, 99, 1), gap(t, 4), report(t, 7.55)),
    "a trimmed message that came just before a break": lambda t: (
        short(t, 2),
        second(t).pop(0),
        report(t, 7.55),
    ),
    "Redis lost it, and cannot know": lambda t: (lost_on_purpose(t, 8.5, 9.5), second(t).pop()),
    "a second try of what Redis lost": lambda t: (
        lost_on_purpose(t, 2.5, 3.5),
        attempt(t, 3, Outcome.SENT),
        logged(t, 3, 1_003, 1_030),
    ),
    "what Redis lost of a short log": lambda t: (
        short(t, 99),
        lost_on_purpose(t, 7.5, 9.5),
        settle_in(t),
        report(t, 8.5),
    ),
    "all comes anew after a loss was told": lambda t: (
        lost_on_purpose(t, 8.5, 9.5),
        anew(t),
        report(t, 9.9),
    ),
    "what another device had comes after a loss was told": lambda t: (
        lost_on_purpose(t, 8.5, 9.5),
        first(t).pop(0),
        t.devices.append(Device("ann", "tab", (CHANNEL,), [Session(0, 3, arrivals=[arrival(1)])])),
        second(t).append(arrival(1, 10.0)),
        report(t, 9.9),
    ),
    "Redis lost it and it was told": lambda t: (
        lost_on_purpose(t, 8.5, 9.5),
        second(t).pop(),
        report(t, 10.0),
    ),
    "keys of the contract": lambda t: (
        left(t, f"log:{{{CHANNEL}}}", "zset", 9),
        left(t, f"confirmed:{{{CHANNEL}}}", "zset", 9),
        left(t, "nodes", "zset", -1, "/beat", "/grace"),
        left(t, "namespaces", "hash", -1),
    ),
    "places of a node that was killed": lambda t: (
        left(t, "conn:{ann}", "zset", 9, "n1/3"),
        left(t, "nodes", "zset", -1, "n1"),
        t.dead_nodes.add("n1"),
    ),
    "a place that a failover has brought back": lambda t: (
        lost_on_purpose(t, BREAK_AT + 2, BREAK_AT + 3),
        left(t, "conn:{ann}", "zset", 9, "n1/3"),
    ),
    "a warning": lambda t: log(t, "WARNING", "subscriber_lost channels=3"),
    "an error of its fault": lambda t: (
        fault(t, "redis_is_out_of_memory", 4, 6),
        log(t, "ERROR", OOM),
    ),
    "in time": lambda t: (fault(t, "redis_hangs", 3, 8), ready(t, 5, 10)),
    "a device is sent what another had, and Redis lost that its user has more": lambda t: (
        lost_on_purpose(t, 5.5, 7.0),
        another_had(t),
    ),
    "six connections while a node is away and its lease is lost": lambda t: (
        fault(t, "node_frozen", 8, 9),
        lost_on_purpose(t, 7.0, 8.5),
        sixth_device(t, seconds=2.5),
    ),
    "six connections while a node is away for longer than its lease": lambda t: (
        fault(t, "node_frozen", -4, 8),
        sixth_device(t, seconds=2.5),
    ),
    "six connections while a slow line tells a client late that it was given up": lambda t: (
        fault(t, "lines_are_slow", 8, 12),
        sixth_device(t, seconds=2.0),
        setattr(t.devices[-1].sessions[0], "close_code", SILENT),
    ),
    "another node's fault": lambda t: (fault(t, "redis_hangs", 3, 8, 1), ready(t, 30, 40)),
    "a second fault before the first was noticed": lambda t: (
        fault(t, "redis_hangs", 3, 4),
        fault(t, "redis_killed", 4.5, 9),
        ready(t, 4, 11),
    ),
}


@pytest.mark.parametrize("edit", FINE.values(), ids=FINE)
def test_what_may_be_is_not_found(edit: Edit) -> None:
    trace = good()
    edit(trace)
    assert violations(trace) == []


def test_every_table_knows_the_faults_by_their_names() -> None:
    names = {each.__name__ for each in FAULTS}
    assert names >= EXPLAINED.keys() | CUTTING


def test_a_log_line_is_read_and_what_is_none_too() -> None:
    line = 'time=2026-11-26T15:59:41.323Z level=error logger=gateway.app event=oh reason="so what"'
    output = f"{line}\nTraceback\n\n"
    error, other = lines("node 0", output)
    assert (error.level, error.text) == ("ERROR", "gateway.app oh reason=so what")
    assert (other.level, other.text, other.at) == ("", "Traceback", error.at)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")[:23]
    [line] = lines("node 0", f"time={now}Z level=info logger=gateway.app event=now")
    assert line.at == pytest.approx(time.monotonic(), abs=0.5)


async def test_what_the_tests_own_process_complains_of_is_read() -> None:
    async def fail() -> None:
        raise OSError("nobody waits for this")

    with OwnLog() as own:
        asyncio.create_task(fail())  # noqa: RUF006 - nobody is to keep it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
    assert [is_bad(line) for line in own.found] == [True]
    assert "never retrieved" in own.found[0].text


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


LOST_DATA = Interval(BREAK_AT - 3, BREAK_AT - 1)


@pytest.mark.parametrize("number", [2, 4, 6])
def test_where_redis_lost_its_data_who_was_not_subscribed_all_the_while_need_not_be_told(
    number: int,
) -> None:
    """The second is published before the outage, the fourth during it, and the sixth afterwards."""
    trace = good()
    first(trace).clear()
    second(trace).pop(0)
    trace.publications = [each for each in trace.publications if each.number in {number, 7, 8, 9}]
    trace.outages.append(LOST_DATA)
    wrong = [each.split(":")[0] for each in violations(trace, Allowance(losses=True))]
    assert wrong == (["lost"] if number == 6 else [])
    trace.devices[0].sessions[0].answered[CHANNEL] = 0.1
    assert violations(trace, Allowance(losses=True))


@pytest.mark.parametrize("number", [7, 8])
def test_what_is_published_after_redis_lost_its_data_comes_to_each_device(number: int) -> None:
    trace = good()
    both = Session(0.0, arrivals=[arrival(n) for n in range(1, PUBLISHED + 1)])
    trace.devices.append(Device("ann", "laptop", (CHANNEL,), [both]))
    trace.devices[0].sessions[1].answered[CHANNEL] = 6.9
    del second(trace)[: number - 5]
    trace.outages.append(Interval(BREAK_AT, 7.5))
    wrong = [each.split(":")[0] for each in violations(trace, Allowance(losses=True))]
    assert wrong == ([] if number == 7 else ["mute"])


def test_a_gap_must_be_reported_on_the_connection_that_has_it() -> None:
    trace = good()
    first(trace).pop(2)
    trace.devices.append(Device("ann", "laptop", (CHANNEL,), [Session(0.0, arrivals=[arrival(3)])]))
    assert [each.split(":")[0] for each in violations(trace, Allowance(losses=True))] == ["gap"]
    report(trace, 4.0, session=0)
    assert violations(trace, Allowance(losses=True)) == []


def test_a_node_that_was_frozen_may_read_messages_before_commands_where_they_come_apart() -> None:
    trace = good()
    end(trace, 3.0)
    fault(trace, "node_frozen", 2.5, 6.5)
    assert violations(trace, Allowance(apart=True)) == []
    assert violations(trace)
    trace.occurrences.clear()
    fault(trace, "node_frozen", 2.5, 5.5)
    assert [each.partition(":")[0] for each in violations(trace, Allowance(apart=True))] == [
        "overheard"
    ]
