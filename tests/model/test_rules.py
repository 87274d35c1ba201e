"""The model knows who may hear what, and tells each way in which a run may break its rules."""

from __future__ import annotations

import math

import pytest

from publisher import EVERYBODY
from tests.model.access import Ways
from tests.model.record import (
    NODE_REPLACED,
    OPEN,
    Arrival,
    Fault,
    Late,
    Publication,
    Record,
    Refusal,
    Revocation,
    Session,
    Token,
    Visit,
)
from tests.model.rules import violations

CHANNEL = "acme/1"


# -- who may hear what ----------------------------------------------------------------------------


def test_a_way_is_perhaps_there_from_the_call_on_and_surely_from_its_return_on() -> None:
    ways = Ways()
    ways.begin("ann", CHANNEL, 10, 12)
    ways.end("ann", CHANNEL, 20, 22)
    for moment, perhaps, surely in (
        *((9, False, False), (11, True, False), (12, True, True), (19, True, True)),
        *((21, True, False), (23, False, False)),
    ):
        assert ways.perhaps(["ann"], CHANNEL, moment, moment) == perhaps, moment
        assert ways.surely(["ann"], CHANNEL, moment, moment) == surely, moment
    assert ways.perhaps(["ann"], CHANNEL, 0, 10)
    assert ways.perhaps(["ann"], CHANNEL, 22, 30)
    assert not ways.surely(["ann"], CHANNEL, 11, 15)


def test_a_way_ends_by_itself() -> None:
    ways = Ways()
    ways.begin("ann", CHANNEL, 10, 12, lasts=5)
    assert ways.surely(["ann"], CHANNEL, 12, 14.9)
    assert not ways.surely(["ann"], CHANNEL, 12, 15)
    assert ways.perhaps(["ann"], CHANNEL, 17, 18)
    assert not ways.perhaps(["ann"], CHANNEL, 17.1, 18)


def test_of_two_ways_that_follow_each_other_without_a_gap_there_is_one_at_each_moment() -> None:
    ways = Ways()
    ways.begin("ann", CHANNEL, 10, 11, lasts=5)
    ways.begin("ann", CHANNEL, 13, 14, lasts=5)
    assert ways.surely(["ann"], CHANNEL, 11, 17.9)
    # The first one may have ended before the third began.
    ways.begin("ann", CHANNEL, 17.8, 18.1)
    assert not ways.surely(["ann"], CHANNEL, 17, 20)


def test_a_shorter_way_takes_the_place_of_a_longer_one() -> None:
    ways = Ways()
    ways.begin("ann", CHANNEL, 10, 11)
    ways.begin("ann", CHANNEL, 13, 14, lasts=1)
    assert not ways.perhaps(["ann"], CHANNEL, 15.1, 99)


def test_what_is_opened_and_was_closed_before_leaves_what_there_was_until_then() -> None:
    ways = Ways()
    ways.begin("ann", CHANNEL, 10, 11)
    ways.begin("ann", CHANNEL, 20, 21)
    ways.end_last("ann", CHANNEL, 5, 6)
    assert ways.surely(["ann"], CHANNEL, 11, 19.9)
    assert not ways.perhaps(["ann"], CHANNEL, 21.1, 99)


def test_everybodys_way_and_a_whole_namespace_let_in_who_holds_them() -> None:
    ways = Ways()
    ways.begin(EVERYBODY, "acme/2", 0, 0)
    ways.begin("ann", "acme", 0, 0)
    assert ways.surely(["ben", EVERYBODY], "acme/2", 1, 2)
    assert ways.surely(["ann"], CHANNEL, 1, 2)
    assert not ways.perhaps(["ben", EVERYBODY], CHANNEL, 1, 2)
    assert not ways.perhaps(["ann"], "umbra/1", 1, 2)
    # A star is an id like any other.
    ways.begin("ben", "acme/*", 0, 0)
    assert not ways.perhaps(["ben"], CHANNEL, 1, 2)


# -- what must hold -------------------------------------------------------------------------------


class Run:
    """A run in which all is well: ``ann`` hears a channel from 10 on, in which #1 to #4 are published from 11 on."""

    def __init__(self) -> None:
        self.record = Record(logged=frozenset(["acme"]), over=100.0)
        self.visit = Visit(0, "ann", 0, 9.0)
        self.record.visits.append(self.visit)
        self.record.ways.begin(self.visit, OPEN, 8, 9)
        self.record.ways.begin("ann", CHANNEL, 8, 9)
        self.session = Session(CHANNEL, 10.0)
        self.visit.sessions.append(self.session)
        for number in range(1, 5):
            at = 10.0 + number
            published = Publication(number, CHANNEL, at, at + 0.1, 1_000 + number)
            self.record.publications[number] = published
            self.session.arrivals.append(Arrival(number, at + 0.1, 1_000 + number))

    def told(self) -> list[str]:
        """The first words of what is wrong."""
        return sorted({each.partition(":")[0] for each in violations(self.record)})


def test_where_all_is_well_nothing_is_told() -> None:
    assert violations(Run().record) == []


@pytest.mark.parametrize(("end", "told"), [(13.1, False), (12.9, True), (11.0, True)])
def test_a_message_that_is_published_a_second_after_the_end_of_access_is_overheard(
    end: float, *, told: bool
) -> None:
    """The last one is published at 14."""
    run = Run()
    run.record.ways.end("ann", CHANNEL, end - 0.1, end)
    run.session.ended = 14.5
    assert ("overheard" in run.told()) == told


def test_who_has_access_again_may_have_what_was_published_meanwhile() -> None:
    run = Run()
    run.record.ways.end("ann", CHANNEL, 10.4, 10.5)
    run.record.ways.begin("ann", CHANNEL, 90, 91)
    run.session.arrivals = [Arrival(each.number, 90.5, each.id) for each in run.session.arrivals]
    assert run.told() == []


def test_a_message_that_waits_for_long_after_the_end_of_access_is_late_but_after_a_fault() -> None:
    run = Run()
    run.record.ways.end("ann", CHANNEL, 13.9, 14.0)
    run.session.arrivals[-1] = Arrival(4, 16.0, 1_004)
    run.session.ended = 16.5
    assert run.told() == ["late"]
    run.record.faults.append(Fault("node cut off", 0, 13.0, 15.5))
    assert run.told() == []


def test_what_comes_over_a_connection_whose_token_has_ended_is_overheard() -> None:
    run = Run()
    run.record.ways.last_until(run.visit, OPEN, 12.0)
    run.visit.ended = 15.0
    assert run.told() == ["late", "overheard"]


def test_a_revoked_token_lets_nobody_in() -> None:
    """Unless it is revoked while they come."""
    for of, told in (({"id": "t1"}, True), ({"id": "t2"}, False)):
        for done in (7.9, 8.1):
            run = Run()
            run.visit.asked, run.visit.shown = 8.0, Token("…", "ann", (), 1e10, "t1", 500.0)
            run.record.revocations.append(Revocation(7.5, done, **of))
            assert ("let in" in run.told()) == (told and done < 8.0)


@pytest.mark.parametrize(
    ("user", "before", "issued", "told"),
    [
        *(("ann", 501.0, 500.0, True), ("ann", 500.0, 500.0, False), ("ann", 1.0, None, True)),
        ("ben", 501.0, 500.0, False),
    ],
)
def test_tokens_of_a_user_are_revoked_by_their_age(
    user: str, before: float, issued: float | None, *, told: bool
) -> None:
    revocation = Revocation(1, 2, user=user, before=before)
    assert revocation.is_about(Token("…", "ann", (), 1e10, "t1", issued)) == told


def test_a_message_of_another_channel_is_overheard() -> None:
    run = Run()
    run.record.publications[2] = run.record.publications[2]._replace(channel="umbra/1")
    assert "overheard" in run.told()


def test_a_message_that_does_not_come_is_missed() -> None:
    run = Run()
    del run.session.arrivals[1]
    assert run.told() == ["missed", "never arrived"]
    # Also where the subscription has ended since, if a later one came.
    run.session.ended = 50.0
    run.visit.left = True
    assert run.told() == ["missed"]
    del run.session.arrivals[1:]
    assert run.told() == []


def test_what_comes_on_another_of_a_users_connections_has_arrived() -> None:
    run = Run()
    other = Visit(1, "ann", 1, 9.0)
    run.record.ways.begin(other, OPEN, 8, 9)
    other.sessions.append(Session(CHANNEL, 20.0, arrivals=[run.session.arrivals.pop()]))
    run.session.ended = 13.5
    run.record.visits.append(other)
    assert run.told() == []


def test_a_message_that_comes_twice_or_too_late_in_order_is_told() -> None:
    run = Run()
    run.session.arrivals.append(run.session.arrivals[0])
    assert run.told() == ["disordered"]


@pytest.mark.parametrize(("since", "told"), [(10.0, ["turned away"]), (8.5, [])])
def test_who_surely_has_access_is_not_refused(since: float, told: list[str]) -> None:
    run = Run()
    run.visit.refusals.append(Refusal(CHANNEL, since, 20.0, "forbidden"))
    assert run.told() == told


def test_a_connection_ends_for_a_reason() -> None:
    run = Run()
    run.visit.ended = 50.0
    assert run.told() == ["turned away"]
    run.record.faults.append(Fault(NODE_REPLACED, 0, 49.0, 51.0))
    assert run.told() == []


def test_in_the_end_nobody_is_left_without_access() -> None:
    run = Run()
    run.record.ways.end("ann", CHANNEL, 50, 51)
    assert run.told() == ["outstayed"]
    run.session.ended = math.inf
    run.record.ways.end(run.visit, OPEN, 50, 51)
    assert [each for each in violations(run.record) if "connected" in each]


def test_what_should_not_have_come_and_errors_in_the_log_are_told() -> None:
    run = Run()
    run.visit.odd.append("got a message without a subscription")
    run.record.errors.append("delivery_failed")
    assert run.told() == ["log", "odd"]


# -- a machine that is late -----------------------------------------------------------------------


def test_only_the_time_in_which_the_event_loop_was_late_is_allowed_for() -> None:
    late = Late()
    for at, seconds in ((5.0, 0.5), (9.5, 0.2), (10.2, 0.3), (20.0, 4.0)):
        late.note(at, seconds)
    assert late.before(8.0, 1.0) == 7.0
    assert late.before(9.6, 1.0) == pytest.approx(8.4)
    assert late.before(9.4, 1.0) == pytest.approx(8.3)
    # What was late before is brought in.
    assert late.before(10.3, 1.0) == pytest.approx(8.8)
    assert late.before(30.0, 1.0) == 29.0


@pytest.mark.parametrize(("at", "told"), [(13.5, []), (12.0, ["overheard"]), (14.5, ["overheard"])])
def test_where_the_event_loop_was_late_what_is_promised_within_a_second_may_take_longer(
    at: float, told: list[str]
) -> None:
    run = Run()
    run.record.ways.end("ann", CHANNEL, 12.7, 12.8)
    run.session.ended = 14.5
    run.record.late.note(at, 0.3)
    assert run.told() == told
