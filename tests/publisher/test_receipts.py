"""Who has confirmed a message, as the positions in Redis say."""

from __future__ import annotations

import threading
import time

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Publisher, Receipt, Rejected
from publisher.contract.channels import Namespace, Owner, Retention
from publisher.contract.keys import Keys
from publisher.transport.flows import Pause
from tests.publisher.announcing import Announce
from tests.support import topology

OWNED = "notifications/u"
SHARED = "run-results/s"


def test_who_stands_at_a_message_or_behind_it_has_a_receipt(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first, second, third = (publisher.publish(SHARED, n).id for n in range(3))
    server.zadd(keys.confirmed(SHARED), {"a": first, "b": third, "ü}": second, "none": 0})
    assert publisher.receipts(SHARED, first) == [
        Receipt("a", first),
        Receipt("ü}", second),
        Receipt("b", third),
    ]
    assert publisher.receipts(SHARED, second) == [Receipt("ü}", second), Receipt("b", third)]
    assert publisher.receipts(SHARED, third + 1) == []
    assert publisher.receipts("run-results/empty", 1) == []


def test_receipts_of_more_users_than_are_read_at_a_time_are_all_there(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    sent = publisher.publish(SHARED, 1).id
    server.zadd(keys.confirmed(SHARED), {f"u{n}": sent for n in range(3_500)})
    found = publisher.receipts(SHARED, sent)
    assert {each.user for each in found} == {f"u{n}" for n in range(3_500)}
    assert len(found) == 3_500


@pytest.mark.parametrize("identifier", [0, "1", True, 2**53])
def test_what_is_no_id_is_refused(publisher: Publisher, identifier: object):
    with pytest.raises(InvalidData, match="id must be an integer"):
        publisher.receipts(SHARED, identifier)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1, "1", True, float("nan"), float("inf"), 86_401])
def test_a_wait_that_cannot_be_publishes_nothing(publisher: Publisher, seconds: object):
    with pytest.raises(InvalidData, match="wait_confirmed"):
        publisher.publish(SHARED, 1, wait_confirmed=seconds)  # type: ignore[arg-type]
    assert publisher.history(SHARED) == []


async def test_without_a_log_nothing_can_be_waited_for(
    async_publisher: AsyncPublisher, announce: Announce
):
    announce(Namespace("ticker", Owner.ANYONE, None))
    with pytest.raises(InvalidData, match="wait_confirmed needs a log"):
        await async_publisher.publish("ticker/x", 1, wait_confirmed=1)


def confirm_when_published(
    server: topology.Looking, keys: Keys, channel: str, *users: str
) -> threading.Thread:
    """As a node does whose clients have answered: one user after the other, once the message is there."""

    def run() -> None:
        while not (newest := server.get(keys.last(channel))):
            time.sleep(0.005)
        for user in users:
            server.zadd(keys.confirmed(channel), {user: int(newest)})

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_publish_returns_when_the_owner_has_confirmed_it(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    server.zadd(keys.confirmed(OWNED), {"other": 2**53 - 1})  # nobody waits for them
    thread = confirm_when_published(server, keys, OWNED, "u")
    sent = publisher.publish(OWNED, 1, wait_confirmed=60)
    thread.join()
    assert sent.confirmed is not None
    assert set(sent.confirmed) == {"u", "other"}


async def test_in_a_shared_channel_it_returns_when_anybody_has(
    async_publisher: AsyncPublisher, server: topology.Looking, keys: Keys
):
    thread = confirm_when_published(server, keys, SHARED, "a")
    sent = await async_publisher.publish(SHARED, 1, wait_confirmed=60)
    thread.join()
    assert sent.confirmed == ("a",)


def test_when_the_time_is_over_it_is_published_and_nobody_is_named(publisher: Publisher):
    sent = publisher.publish(OWNED, 1, wait_confirmed=0.01)
    assert sent.confirmed == ()
    assert [entry.id for entry in publisher.history(OWNED)] == [sent.id]
    assert publisher.publish(OWNED, 2).confirmed is None


def test_a_wait_for_a_duplicate_is_for_the_first(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    first = publisher.publish(OWNED, 1, idempotency_key="k")
    server.zadd(keys.confirmed(OWNED), {"u": first.id})
    again = publisher.publish(OWNED, 1, idempotency_key="k", wait_confirmed=60)
    assert (again.id, again.duplicate, again.confirmed) == (first.id, True, ("u",))


def test_pauses_grow_and_end_with_the_time(publisher: Publisher):
    """As many questions as the documentation says, and none after that time."""
    receipts = publisher._operations.receipts
    publisher.publish(OWNED, 1)
    now = 0.0
    receipts._clock = lambda: now
    flow = receipts._wait(OWNED, 1, 3.0)
    pauses = []
    step = next(flow)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(round(step.seconds, 3))
                now += step.seconds
                step = flow.send([])
            else:
                step = flow.send([None])
    except StopIteration as done:
        assert done.value == ()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.65]


@pytest.mark.one_server("a user of one server is made")
def test_who_may_not_read_positions_publishes_nothing(
    publisher: Publisher, publisher_url: str, prefix: str, server: redis.Redis
):
    server.execute_command("ACL", "SETUSER", f"publisher-{prefix}", "-zscan")
    with pytest.raises(Rejected, match=r"\+zscan") as caught:
        publisher.publish(SHARED, 1, wait_confirmed=1)
    assert not caught.value.maybe_sent
    assert publisher.history(SHARED) == []


def test_the_retention_may_be_a_messages_own(publisher: Publisher):
    sent = publisher.publish(SHARED, 1, retention=Retention(1, 60), wait_confirmed=0.01)
    assert sent.confirmed == ()
