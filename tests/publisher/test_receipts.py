"""Who has confirmed a message, as the positions in Redis say."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Publisher, Receipt, Rejected
from publisher.contract.channels import Namespace, Owner, Retention
from publisher.contract.keys import Keys
from publisher.transport.flows import Pause
from tests.publisher.announcing import Announce
from tests.support import topology
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

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


def test_of_a_channel_that_never_was_there_are_no_receipts(publisher: Publisher):
    assert publisher.receipts("run-results/never", 1) == []


def test_who_asks_where_no_log_is_kept_is_told_so(publisher: Publisher, announce: Announce):
    announce(Namespace("ticker", Owner.ANYONE, None))
    sent = publisher.publish("ticker/x", 1)
    for identifier in (sent.id, 1):
        with pytest.raises(InvalidData, match="receipts need a log, and namespace 'ticker' keeps"):
            publisher.receipts("ticker/x", identifier)


def test_receipts_are_there_while_no_gateway_is_left_that_has_the_namespace(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    server.zadd(keys.confirmed("gone/x"), {"u": 7})
    assert publisher.receipts("gone/x", 7) == [Receipt("u", 7)]


USERS = ["*", "B", "a", "a b", "a/b", "ab", "auth0|a", "ü}", "张三", "𝄞"]
"""In the order of their bytes, which is that of their characters."""


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
def test_they_come_in_parts_of_which_none_leaves_anybody_out(
    publisher: Publisher, server: redis.Redis, keys: Keys, limit: int
):
    server.zadd(keys.confirmed(SHARED), {"before": 1, **dict.fromkeys(USERS, 2), "behind": 3})
    found: list[Receipt] = []
    after, identifier = "", 2
    while part := publisher.receipts(SHARED, identifier, after=after, limit=limit):
        assert len(part) <= limit
        found += part
        after, identifier = part[-1].user, part[-1].up_to
    assert found == [*(Receipt(user, 2) for user in USERS), Receipt("behind", 3)]


def test_a_part_follows_also_on_a_user_who_does_not_stand_there_any_more(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    server.zadd(keys.confirmed(SHARED), dict.fromkeys(USERS, 2))
    for number, user in enumerate(USERS):
        server.zadd(keys.confirmed(SHARED), {user: 9})
        left = [Receipt(each, 2) for each in USERS[number + 1 :]]
        moved = [Receipt(each, 9) for each in USERS[: number + 1]]
        assert publisher.receipts(SHARED, 2, after=user) == left + moved
        server.zrem(keys.confirmed(SHARED), user)
        assert publisher.receipts(SHARED, 2, after=user) == left + moved[:-1]
        server.zadd(keys.confirmed(SHARED), {user: 9})


@pytest.mark.parametrize("wrong", [{"after": None}, {"after": 1}, {"limit": 0}, {"limit": True}])
def test_a_part_that_cannot_be_is_refused(publisher: Publisher, wrong: dict[str, Any]):
    with pytest.raises(InvalidData, match="|".join(wrong)):
        publisher.receipts(SHARED, 1, **wrong)


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
    assert sent.confirmed == ("u", "other")


async def test_in_a_shared_channel_it_returns_when_anybody_has(
    async_publisher: AsyncPublisher, server: topology.Looking, keys: Keys
):
    thread = confirm_when_published(server, keys, SHARED, "a")
    sent = await async_publisher.publish(SHARED, 1, wait_confirmed=60)
    thread.join()
    assert sent.confirmed == ("a",)


async def test_of_a_crowd_that_has_it_not_all_are_named(
    async_publisher: AsyncPublisher, server: topology.Looking, keys: Keys
):
    """What a publish that waits costs does not depend on how many are in the channel."""
    crowd = {f"u{number}": 2**53 - 1 for number in range(1_500)}
    server.zadd(keys.confirmed(SHARED), crowd)
    sent = await async_publisher.publish(SHARED, 1, wait_confirmed=60)
    assert sent.confirmed is not None
    assert len(set(sent.confirmed)) == 1_000
    server.zadd(keys.confirmed(OWNED), {**crowd, "u": 2**53 - 1})
    sent = await async_publisher.publish(OWNED, 1, wait_confirmed=60)
    assert sent.confirmed is not None
    assert sent.confirmed[0] == "u"


async def test_a_redis_that_ends_meanwhile_makes_no_error_of_a_message_that_is_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with AsyncPublisher.from_url(server.url) as publisher:
            waiting = asyncio.create_task(publisher.publish(OWNED, 1, wait_confirmed=2))
            with redis.Redis.from_url(server.url) as client:
                await until(lambda: client.exists(Keys("rt1").log(OWNED)))
            server.kill()
            assert (await waiting).confirmed == ()
    finally:
        server.stop()
    assert "primary_lost" in caplog.text


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
                step = flow.send([None, []])
    except StopIteration as done:
        assert done.value == ()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.65]


@pytest.mark.one_server("a user of one server is made")
def test_who_may_not_read_positions_publishes_nothing(
    publisher: Publisher, publisher_url: str, prefix: str, server: redis.Redis
):
    server.execute_command("ACL", "SETUSER", f"publisher-{prefix}", "-zscore")
    with pytest.raises(Rejected, match=r"\+zscore") as caught:
        publisher.publish(SHARED, 1, wait_confirmed=1)
    assert not caught.value.maybe_sent
    assert publisher.history(SHARED) == []


def test_the_retention_may_be_a_messages_own(publisher: Publisher):
    sent = publisher.publish(SHARED, 1, retention=Retention(1, 60), wait_confirmed=0.01)
    assert sent.confirmed == ()
