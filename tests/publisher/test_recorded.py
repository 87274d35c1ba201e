"""What a recording publisher keeps, and what a test may set: on top of what it does as the real one does (``test_recording.py``)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from publisher import (
    EVERYBODY,
    InvalidChannel,
    InvalidData,
    NotReplicated,
    Outgoing,
    Published,
    Rejected,
    Retention,
    Unavailable,
)
from publisher.testing import (
    AsyncRecordingPublisher,
    Disconnected,
    Granted,
    PublishedMessage,
    RecordingPublisher,
)

OWN, SHARED = "notifications/u", "run-results/s"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LOST = Unavailable("cut off", maybe_sent=True)


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher(namespaces={"ticker": {"owner": "anyone", "retention": None}})


def test_what_was_published_is_kept_as_it_was_given(publisher: RecordingPublisher):
    sent = publisher.publish(
        OWN,
        {"a": (1, 2)},
        idempotency_key="k",
        retention=Retention(5, 60),
        min_replicas=1,
        collapse_key="c",
        ttl=9,
        traceparent=TRACE,
    )
    (kept,) = publisher.published
    assert kept == PublishedMessage(
        id=sent.id,
        channel=OWN,
        data={"a": [1, 2]},
        timestamp=sent.id // 1000,
        idempotency_key="k",
        retention=Retention(5, 60),
        min_replicas=1,
        collapse_key="c",
        ttl=9,
        traceparent=TRACE,
    )
    with pytest.raises(AttributeError):
        kept.channel = "other"  # type: ignore[misc]


def test_everything_that_publishes_is_kept_in_its_order(publisher: RecordingPublisher):
    publisher.publish("ticker/x", 1)
    publisher.publish_many([(OWN, 2), Outgoing(OWN, 3), ("nowhere/x", 4)])
    publisher.broadcast(5, users=["u", "v"])
    publisher.notify("u", title="T", message="M")
    publisher.run_result("s", stdout="", stderr="", exit_code=0, duration=1)
    assert [each.channel for each in publisher.published] == [
        "ticker/x",
        *(OWN, OWN, OWN),
        "notifications/v",
        OWN,
        SHARED,
    ]
    assert publisher.published[0].id == 0
    assert [each.data for each in publisher.published[1:5]] == [2, 3, 5, 5]


def test_a_duplicate_is_published_once_and_what_is_deleted_was_published(
    publisher: RecordingPublisher,
):
    first = publisher.publish(OWN, 1, idempotency_key="k")
    publisher.publish(OWN, 1, idempotency_key="k")
    publisher.delete(OWN, first.id)
    assert len(publisher.published) == 1


def test_a_call_fails_as_it_was_told_and_the_next_one_does_not(publisher: RecordingPublisher):
    publisher.fail_next(Unavailable("away", maybe_sent=False))
    with pytest.raises(InvalidChannel):
        publisher.publish("wrong", 1)
    with pytest.raises(Unavailable, match="away") as caught:
        publisher.publish(OWN, 1)
    assert not caught.value.maybe_sent
    assert publisher.published == []
    publisher.publish(OWN, 1)
    publisher.fail_next(Rejected("NOPERM", maybe_sent=False), times=2)
    for call in (lambda: publisher.grant(SHARED, "u"), publisher.ping):
        with pytest.raises(Rejected):
            call()
    publisher.ping()


def test_a_call_whose_answer_is_lost_may_have_published(publisher: RecordingPublisher):
    publisher.fail_next(LOST)
    with pytest.raises(Unavailable) as caught:
        publisher.publish(OWN, 1)
    assert caught.value.maybe_sent
    assert publisher.published == []
    publisher.fail_next(LOST, took_effect=True)
    with pytest.raises(Unavailable):
        publisher.publish(OWN, 1, idempotency_key="k")
    assert publisher.publish(OWN, 1, idempotency_key="k").duplicate
    assert len(publisher.published) == 1


def test_a_failure_is_the_outcome_of_each_of_many(publisher: RecordingPublisher):
    publisher.fail_next(LOST)
    outcomes = publisher.publish_many([(OWN, 1), (OWN, object()), (OWN, 2)])
    assert [type(each) for each in outcomes] == [Unavailable, InvalidData, Unavailable]


def test_failures_that_cannot_be_are_refused(publisher: RecordingPublisher):
    with pytest.raises(ValueError, match="maybe_sent must be True"):
        publisher.fail_next(Unavailable("x", maybe_sent=False), took_effect=True)
    with pytest.raises(ValueError, match="set replicas"):
        publisher.fail_next(NotReplicated("x", 1, OWN, False, 0, 1))


def test_time_that_passes_publishes_what_is_due_and_ends_what_lives_for_a_while(
    publisher: RecordingPublisher,
):
    publisher.publish(OWN, "short", ttl=60)
    now = publisher.published[0].timestamp / 1000
    planned = publisher.publish(OWN, "later", at=now + 3600)
    assert isinstance(publisher.published, list)
    (waiting,) = publisher.waiting
    assert (waiting.data, waiting.idempotency_key) == ("later", None)
    assert waiting.timestamp == pytest.approx(planned.at * 1000, abs=1)
    publisher.grant(SHARED, "u", ttl=1000)
    publisher.advance(1800)
    assert [publisher.history(OWN), publisher.granted] == [[], []]
    assert len(publisher.waiting) == 1
    publisher.advance(1800.1)
    assert publisher.waiting == []
    assert publisher.published[1].data == "later"
    assert publisher.published[1].timestamp >= planned.at * 1000
    assert not publisher.cancel(planned)
    with pytest.raises(ValueError, match="does not go back"):
        publisher.advance(-1)


def test_access_that_was_given_and_taken_can_be_looked_at(publisher: RecordingPublisher):
    publisher.grant("run-results/b", EVERYBODY, ttl=None)
    publisher.grant("run-results/a", "*", ttl=60)
    first, second = publisher.granted
    assert (first.channel, first.user) == ("run-results/a", "*")
    assert second == Granted("run-results/b", EVERYBODY, None)
    connections = [publisher.add_connection("u") for _ in range(3)]
    named = f"node-1/{connections[1].id}"
    publisher.disconnect("u", connection=named)
    assert publisher.connections("u") == [connections[0], connections[2]]
    publisher.disconnect("u", reason="logout")
    assert publisher.connections("u") == []
    assert publisher.disconnected == [
        Disconnected("u", "", named),
        Disconnected("u", "logout", None),
    ]
    publisher.revoke_token("j", 4e9)
    publisher.revoke_tokens_before("u", 1e9)
    publisher.revoke_tokens_before("u", 1e8)
    assert publisher.is_token_revoked("j")
    assert not publisher.is_token_revoked("other")
    assert (publisher.revoked_before("u"), publisher.revoked_before("v")) == (1e9, None)


def test_who_confirms_at_once_is_waited_for_in_no_time(publisher: RecordingPublisher):
    publisher.confirm_at_once("u", "v")
    assert publisher.publish(OWN, 1, wait_confirmed=60).confirmed == ("u",)
    assert publisher.publish(SHARED, 1, wait_confirmed=60).confirmed == ("u", "v")
    publisher.confirm_at_once()
    assert publisher.publish(OWN, 2, wait_confirmed=3600).confirmed == ()


def test_a_loop_over_events_ends_where_all_are_taken(publisher: RecordingPublisher):
    publisher.add_event("connected", "u", first=True)
    publisher.add_event("lost", "u", channel=OWN)
    assert [each.kind for each in publisher.events("g")] == ["connected", "lost"]
    assert list(publisher.events("g")) == []
    publisher.add_event("disconnected", "u", last=True)
    assert [each.kind for each in publisher.events("g")] == ["disconnected"]
    with pytest.raises(InvalidData, match="kind must be one of"):
        publisher.add_event("conected", "u")


async def test_events_that_are_not_handled_are_given_again():
    publisher = AsyncRecordingPublisher()
    added = [publisher.add_event("lost", user) for user in "abc"]
    one, other = publisher.events("g"), publisher.events("g")
    taken = await one.take(most=2)
    assert taken == added[:2]
    await one.acknowledge([added[0].id])
    assert await one.take() == added[1:2]
    await one.release([added[1].id])
    assert await other.take() == added[1:2]
    await other.set_aside(added[1], "no address")
    assert [each async for each in other] == added[2:]


async def test_calls_side_by_side_are_published_one_by_one():
    async with AsyncRecordingPublisher() as publisher:
        sent = await asyncio.gather(*(publisher.publish(OWN, n) for n in range(50)))
    assert len({each.id for each in sent}) == 50
    assert [each.data for each in publisher.published] == list(range(50))


def test_threads_may_share_it(publisher: RecordingPublisher):
    def work() -> None:
        for number in range(50):
            publisher.publish(OWN, number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [each.id for each in publisher.published]
    assert len(ids) == 200
    assert ids == sorted(set(ids))


def test_it_can_be_used_anew(publisher: RecordingPublisher):
    publisher.publish(OWN, 1, idempotency_key="k")
    publisher.fail_next(LOST)
    publisher.clear()
    assert publisher.published == []
    assert not publisher.publish(OWN, 1, idempotency_key="k").duplicate


@pytest.mark.parametrize("call", ["publisher", "publisher.testing"])
def test_neither_aiohttp_nor_pytest_is_imported(call: str):
    program = f"import sys, {call}; sys.exit(bool({{'aiohttp', 'pytest'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_code_that_asks_for_a_publisher_takes_one(publisher: RecordingPublisher):
    from publisher import Publisher

    def greet(through: Publisher, user: str) -> Published:
        return through.notify(user, title="Hello", message=user)

    assert greet(publisher, "u").id == publisher.published[0].id
    answer: Any = publisher.published[0].data
    assert answer["title"] == "Hello"
