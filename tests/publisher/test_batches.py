"""Which messages go together when it is not known what has arrived."""

from __future__ import annotations

from publisher.contract.channels import Namespace, Retention
from publisher.errors import Unavailable
from publisher.publishing import BATCH, Delivery, narrow, next_batch
from publisher.records import Outgoing, Published

CUT = Unavailable("cut", maybe_sent=True)


def delivery(channel: str, *, doubtful: bool = False, retained: int | None = 2) -> Delivery:
    made = Delivery(Outgoing(channel, 1), "n", 100)
    kept = None if retained is None else Retention(retained, 60)
    made.follow(Namespace(made.namespace, retention=kept))
    if doubtful:
        made.failed(CUT, 5.0)
    return made


def test_without_doubt_all_go_together():
    waiting = [delivery("a/1") for _ in range(BATCH)]
    assert next_batch(waiting) == waiting


def test_in_doubt_a_channel_has_as_many_as_it_retains_and_keeps_its_order():
    first, second, third, other = (
        delivery(channel, doubtful=channel == "a/1") for channel in ("a/1", "a/1", "a/1", "a/2")
    )
    assert next_batch([first, second, third, other]) == [first, second, other]


def test_a_smaller_retention_waits_for_those_before_it_and_holds_back_those_after():
    wide, narrow_, after = (delivery("a/1", doubtful=True, retained=n) for n in (9, 1, 9))
    assert next_batch([wide, narrow_, after]) == [wide]


def test_without_a_log_there_is_nothing_to_displace():
    waiting = [delivery("a/1", doubtful=True), *(delivery("b/1", retained=None) for _ in range(9))]
    assert next_batch(waiting) == waiting


def test_what_comes_after_a_published_message_has_a_higher_id():
    done, after, other, sure = (
        delivery(channel, doubtful=doubtful)
        for channel, doubtful in (("a/1", True), ("a/1", True), ("a/2", True), ("a/1", False))
    )
    done.outcome = Published(17, "a/1")
    narrow([done], [after, other, sure])
    assert [each.doubtful_since for each in (after, other, sure)] == [18, 0, 0]
    after.doubtful_since = 30
    narrow([done], [after])
    assert after.doubtful_since == 30


def test_nothing_is_concluded_for_what_was_tried_beside_it():
    failed, done = delivery("a/1", doubtful=True), delivery("a/1", doubtful=True)
    done.outcome = Published(17, "a/1")
    narrow([failed, done], [failed])
    assert failed.doubtful_since == 0
