"""Questions by ping, answers by pong, and what may be concluded from them."""

from __future__ import annotations

from itertools import count, pairwise

import pytest

from gateway.node import confirmation as confirmation_module
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel, Connection, Subscription
from gateway.node.timings import Timings
from publisher.contract.channels import Namespace, Owner, Retention
from tests.unit.fakes import NEWS, FakeClock, RecordingPositions, make_connection
from tests.unit.wire import PING, frames_in

INTERVAL = 1.0
LONGER = 3 * INTERVAL
KEPT = Retention(1_000, 60)


class Bench:
    """A confirmation and a client that is subscribed to the news."""

    def __init__(self, kept: Retention | None = KEPT) -> None:
        namespaces = {"news": Namespace("news", Owner.ANYONE, kept)}
        self.positions = RecordingPositions()
        self.clock = FakeClock()
        self.timings = Timings(self.clock)
        self.confirmation = Confirmation(
            self.positions, namespaces, self.clock, INTERVAL, self.timings
        )
        self.client: Connection = make_connection(user="ann")[0]
        self.subscription = subscribed(self.client, upto=1_000)
        self.asked: list[tuple[str, bytes]] = []

    def sent(self, upto: int, channel: str = NEWS.name) -> bytes:
        return self.confirmation.sent(channel, upto)

    def tick(self) -> list[tuple[str, bytes]]:
        self.asked.clear()
        self.confirmation.tick(lambda channel, ping: self.asked.append((channel, ping)))
        return self.asked.copy()

    def answer(self, question: bytes) -> None:
        self.confirmation.pong(self.client, ping_payload(question))


def subscribed(client: Connection, upto: int) -> Subscription:
    """Subscribe to the news, of which the client was sent everything up to ``upto``."""
    subscription = client.subscriptions[NEWS.name] = Subscription(client, NEWS)
    subscription.position = upto
    return subscription


def ping_payload(question: bytes) -> bytes:
    [frame] = frames_in(question)
    assert frame.opcode == PING
    assert len(frame.payload) <= 125
    return frame.payload


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_message_is_followed_by_a_question_at_once(bench: Bench) -> None:
    bench.answer(bench.sent(7))
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_within_the_interval_nothing_more_is_asked(bench: Bench) -> None:
    assert bench.sent(7)
    bench.clock.now += INTERVAL - 0.01
    assert bench.sent(8) == b""
    assert bench.tick() == []


def test_after_the_interval_the_next_message_is_followed_by_a_question(bench: Bench) -> None:
    bench.sent(7)
    bench.clock.now += INTERVAL
    bench.answer(bench.sent(8))
    assert bench.positions.advanced == [(NEWS.name, "ann", 8)]


def test_the_tick_asks_once_for_all_that_was_not_asked_about(bench: Bench) -> None:
    bench.sent(7)
    bench.sent(8)
    bench.sent(9)
    bench.clock.now += INTERVAL
    [(channel, question)] = bench.tick()
    bench.answer(question)
    assert channel == NEWS.name
    assert bench.positions.advanced == [(NEWS.name, "ann", 9)]
    bench.clock.now += INTERVAL
    assert bench.tick() == []


def test_the_tick_asks_nothing_when_everything_was_asked_about(bench: Bench) -> None:
    bench.sent(7)
    bench.clock.now += INTERVAL
    assert bench.tick() == []


def test_however_messages_and_ticks_fall_there_is_one_question_an_interval(bench: Bench) -> None:
    asked_at = []
    for id_ in range(1, 400):
        bench.clock.now += 0.03
        if bench.sent(id_):
            asked_at.append(bench.clock.now)
        if id_ % 8 == 0:
            asked_at += [bench.clock.now] * len(bench.tick())
    gaps = [later - earlier for earlier, later in pairwise(asked_at)]
    assert len(asked_at) >= 10
    assert min(gaps) >= INTERVAL


def measured(bench: Bench) -> tuple[int, float]:
    """How many confirmations were measured, and how long they took together."""
    histogram = bench.timings.publish_to_confirmation
    return sum(histogram.counts), pytest.approx(histogram.total, abs=1e-5)


def published(bench: Bench) -> int:
    """The id of a message that is published now."""
    bench.timings.redis_clock.learn(round(bench.clock.now * 1e6), bench.clock.now)
    bench.subscription.position = round(bench.clock.now * 1e6)
    return bench.subscription.position


def test_of_messages_that_are_confirmed_together_the_oldest_is_measured(bench: Bench) -> None:
    """The last one may have come just before the question, and says nothing of how long the others waited."""
    bench.clock.now = 100.0
    question = bench.sent(published(bench))
    bench.clock.now += 0.25
    assert not bench.sent(published(bench))  # after the question, so it waits for the next
    bench.clock.now += 0.5
    assert not bench.sent(published(bench))
    bench.answer(question)
    assert measured(bench) == (1, 0.75)
    bench.clock.now += 1.0
    [(_, question)] = bench.tick()
    bench.answer(question)
    assert measured(bench) == (2, 0.75 + 1.5)
    bench.answer(question)  # again: nothing new
    bench.clock.now += LONGER
    first = published(bench)
    bench.clock.now += 0.5
    question = bench.confirmation.sent(NEWS.name, published(bench), 2, first)
    bench.answer(question)
    assert measured(bench) == (3, 0.75 + 1.5 + 0.5)


def test_what_was_published_before_its_user_came_is_not_measured(bench: Bench) -> None:
    bench.clock.now = 100.0
    first = published(bench)
    bench.client.entered_at = first
    bench.clock.now += 1.0
    question = bench.confirmation.sent(NEWS.name, published(bench), 2, first)
    bench.clock.now += 2.0
    bench.answer(question)
    assert measured(bench) == (1, 2.0)


def test_what_a_client_has_acknowledged_is_not_measured_again(bench: Bench) -> None:
    bench.clock.now = 100.0
    first = published(bench)
    bench.clock.now += 1.0
    question = bench.confirmation.sent(NEWS.name, published(bench), 2, first)
    bench.confirmation.confirm(bench.client, NEWS.name, first)
    assert measured(bench) == (1, 1.0)
    bench.clock.now += 2.0
    bench.answer(question)
    assert measured(bench) == (2, 1.0 + 2.0)


def answered_stream(bench: Bench) -> None:
    """Messages go on coming, and the two questions about them are answered."""
    bench.answer(bench.sent(1))
    bench.sent(2)
    bench.clock.now += INTERVAL
    bench.answer(bench.sent(3))


@pytest.mark.parametrize(
    "kept", [Retention(12, 60), Retention(1_000, 11), None], ids=["few", "briefly", "not at all"]
)
def test_where_the_log_keeps_little_the_interval_stays_the_ordinary_one(
    kept: Retention | None,
) -> None:
    """Else what was trimmed before it was asked about would be told as lost."""
    bench = Bench(kept)
    answered_stream(bench)
    for id_ in range(4, 8):
        assert bench.sent(id_) == b""
    bench.clock.now += INTERVAL
    assert bench.sent(8)


def test_a_channel_that_is_confirmed_regularly_is_asked_about_less_often(bench: Bench) -> None:
    answered_stream(bench)
    for id_ in (4, 5, 6):
        bench.clock.now += LONGER / 3 - 0.01
        assert bench.sent(id_) == b""
        assert bench.tick() == []
    bench.clock.now += 0.03
    [(_, question)] = bench.tick()
    bench.answer(question)
    assert bench.positions.advanced[-1] == (NEWS.name, "ann", 6)


def test_after_more_than_the_log_keeps_for_a_longer_interval_the_ordinary_one_is_kept(
    bench: Bench,
) -> None:
    """Though nothing comes after it: who was sent it all must not seem to have lost what is trimmed then."""
    answered_stream(bench)
    assert bench.confirmation.sent(NEWS.name, 500, KEPT.max_messages // 2) == b""
    assert bench.confirmation.sent(NEWS.name, 501, 1) == b""
    bench.clock.now += INTERVAL
    [(_, question)] = bench.tick()
    bench.answer(question)
    assert bench.positions.advanced[-1] == (NEWS.name, "ann", 501)
    bench.clock.now += LONGER
    assert not bench.tick()


def test_however_many_questions_are_answered_the_longer_interval_is_the_longest(
    bench: Bench,
) -> None:
    asked_at = []
    for id_ in range(1, 900):
        bench.clock.now += 0.03
        questions = [bench.sent(id_), *(ping for _, ping in bench.tick())]
        for question in filter(None, questions):
            asked_at.append(bench.clock.now)
            bench.answer(question)
    gaps = [later - earlier for earlier, later in pairwise(asked_at)]
    assert INTERVAL <= gaps[0] < INTERVAL + 0.04
    assert all(LONGER <= gap < LONGER + 0.04 for gap in gaps[1:])
    assert len(gaps) >= 6


def test_a_question_that_nobody_answers_makes_the_interval_the_ordinary_one_again(
    bench: Bench,
) -> None:
    answered_stream(bench)
    ids = count(4)
    for interval in (LONGER, LONGER, INTERVAL):
        bench.sent(next(ids))
        bench.sent(next(ids))
        bench.clock.now += interval - 0.01
        assert not bench.tick()
        bench.clock.now += 0.02
        assert bench.tick()


def test_after_a_quiet_while_the_first_message_is_asked_about_at_once_again(bench: Bench) -> None:
    answered_stream(bench)
    bench.clock.now += LONGER
    assert bench.tick() == []
    assert not bench.confirmation._progress
    assert not bench.confirmation._questions
    assert bench.sent(4)
    bench.sent(5)
    bench.clock.now += INTERVAL
    assert bench.tick()


def test_one_message_between_two_questions_makes_the_interval_a_longer_one(bench: Bench) -> None:
    bench.answer(bench.sent(1))
    bench.clock.now += INTERVAL - 0.01
    assert bench.sent(2) == b""
    bench.clock.now += 0.02
    [(_, question)] = bench.tick()
    bench.answer(question)
    bench.clock.now += LONGER - 0.02
    assert bench.sent(3) == b""
    bench.clock.now += 0.03
    [(_, question)] = bench.tick()
    bench.answer(question)
    assert bench.positions.advanced[-1] == (NEWS.name, "ann", 3)


def test_a_channel_whose_messages_come_one_by_one_is_asked_about_each(bench: Bench) -> None:
    for id_ in range(1, 10):
        bench.answer(bench.sent(id_))
        bench.clock.now += INTERVAL
        bench.tick()
    assert [id_ for _, _, id_ in bench.positions.advanced] == list(range(1, 10))


class NoPattern:
    """Stands for the regular expression where none may be needed."""

    def fullmatch(self, payload: bytes) -> None:
        raise AssertionError(payload)


def test_what_answers_the_last_question_and_signs_of_life_are_read_without_a_pattern(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation_module, "_ANSWER", NoPattern())
    bench.confirmation.pong(bench.client, b"h")
    bench.answer(bench.sent(7))
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_what_is_proven_already_is_not_written_again(bench: Bench) -> None:
    question = bench.sent(7)
    for _ in range(3):
        bench.answer(question)
        bench.confirmation.confirm(bench.client, NEWS.name, 7)
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_after_redis_has_lost_ids_lower_ones_are_proven_anew(bench: Bench) -> None:
    question = bench.sent(7)
    bench.answer(question)
    bench.answer(bench.confirmation.replayed(NEWS.name, 5))
    bench.answer(question)
    assert [id_ for _, _, id_ in bench.positions.advanced] == [7, 5, 7]


def test_channels_are_asked_about_each_for_itself(bench: Bench) -> None:
    assert bench.sent(7, "news/a")
    assert bench.sent(7, "news/b")


def test_the_longest_channel_name_fits_into_a_question(bench: Bench) -> None:
    name = "news/" + "x" * 250
    assert ping_payload(bench.confirmation.replayed(name, 2**53 - 1))


def test_an_answer_proves_what_was_asked_and_not_what_was_sent_since(bench: Bench) -> None:
    question = bench.sent(7)
    bench.sent(8)
    bench.answer(question)
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_the_end_of_a_replay_is_always_asked_about(bench: Bench) -> None:
    bench.sent(7)
    bench.answer(bench.confirmation.replayed(NEWS.name, 5))
    assert bench.positions.advanced == [(NEWS.name, "ann", 5)]


def test_members_may_answer_one_question_each_for_its_user(bench: Bench) -> None:
    question = bench.sent(7)
    other = make_connection(user="bob", id="c2")[0]
    subscribed(other, upto=1_000)
    bench.answer(question)
    bench.confirmation.pong(other, ping_payload(question))
    assert bench.positions.advanced == [(NEWS.name, "ann", 7), (NEWS.name, "bob", 7)]


@pytest.mark.parametrize(
    "payload",
    [b"", b"h", b"c", b"c1", b"c1:", b"c2:7", b"c:7", b"1:7", b"C1:7", b"c1:-7", b"c1: 7", b"c1:7 ", b"c1:7_0",
     b"c1:7\n", b"c1:\xb2", "c1:\u0661".encode(), b"c1:" + b"9" * 121, b"c" + b"9" * 120 + b":7", b"\x00\xff"],
)  # fmt: skip
def test_a_pong_that_answers_no_question_proves_nothing(bench: Bench, payload: bytes) -> None:
    bench.sent(7)
    bench.confirmation.pong(bench.client, payload)
    assert bench.positions.advanced == []


def test_of_a_channel_that_nobody_listens_to_nothing_is_kept(bench: Bench) -> None:
    question = bench.sent(7)
    bench.confirmation.forget(NEWS.name)
    bench.confirmation.forget(NEWS.name)
    bench.answer(question)
    assert bench.positions.advanced == []
    assert not bench.confirmation._progress
    assert not bench.confirmation._channels
    assert not bench.confirmation._numbers


def test_a_number_is_never_used_for_another_channel(bench: Bench) -> None:
    question = bench.sent(7, "news/other")
    bench.confirmation.forget("news/other")
    bench.sent(9)
    bench.answer(question)
    assert bench.positions.advanced == []


def test_nothing_is_kept_of_a_quiet_channel_but_its_number(bench: Bench) -> None:
    for number in range(100):
        bench.sent(number, f"news/{number}")
    bench.clock.now += INTERVAL
    bench.tick()
    assert not bench.confirmation._progress
    assert not any(bench.confirmation._asked.values())
    assert not bench.confirmation._questions


def test_no_client_confirms_more_than_it_was_sent(bench: Bench) -> None:
    bench.subscription.position = 7
    bench.confirmation.confirm(bench.client, NEWS.name, 2**53 - 1)
    bench.confirmation.pong(bench.client, ping_payload(bench.sent(3))[:-1] + b"9999")
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_a_live_subscription_was_sent_what_came_live(bench: Bench) -> None:
    bench.subscription.live = Channel(NEWS, keeps_log=True)
    bench.subscription.live.position = 2_000
    bench.confirmation.confirm(bench.client, NEWS.name, 5_000)
    assert bench.positions.advanced == [(NEWS.name, "ann", 2_000)]


def test_who_was_never_let_into_a_channel_confirms_nothing_in_it(bench: Bench) -> None:
    bench.answer(bench.sent(7, "news/other"))
    bench.confirmation.confirm(bench.client, "news/other", 9)
    assert bench.positions.advanced == []


def test_who_left_a_channel_may_still_confirm_what_it_was_sent(bench: Bench) -> None:
    question = bench.sent(7)
    del bench.client.subscriptions[NEWS.name]
    bench.client.positions[NEWS.name] = 7
    bench.answer(question)
    assert bench.positions.advanced == [(NEWS.name, "ann", 7)]


def test_an_ack_counts_for_the_user_of_its_connection(bench: Bench) -> None:
    bench.confirmation.confirm(bench.client, NEWS.name, 12)
    assert bench.positions.advanced == [(NEWS.name, "ann", 12)]
