"""A log is trimmed now and then, and whoever reads it never sees more than its retention says."""

from __future__ import annotations

import pytest
import redis

from publisher import Outgoing, Publisher, Retention
from publisher.contract.channels import Namespace
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from tests.publisher.announcing import Announce
from tests.publisher.test_publishing import HOUR_US, now_us

CHANNEL = "orders/1"
KEPT = Retention(100, 3_600)
SLACK = 32
"""A log is trimmed with about every 16th message."""


@pytest.fixture(autouse=True)
def orders(announce: Announce) -> None:
    announce(Namespace("orders", retention=KEPT))


def add(server: redis.Redis, keys: Keys, *ids: int, last: bool = True) -> None:
    """Entries that no publish has trimmed yet."""
    chain = zip((0, *ids), ids, strict=False)
    server.zadd(keys.log(CHANNEL), {b"%d:%d:n:%d" % (id_, prev, id_): id_ for prev, id_ in chain})
    if last:
        server.set(keys.last(CHANNEL), ids[-1])


def read(publisher: Publisher, since: int = 0, limit: int | None = None) -> list[int]:
    return [each.id for each in publisher.history(CHANNEL, since, limit)]


def test_what_is_beyond_the_count_is_not_read(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    now = now_us()
    ids = range(now - 250, now)
    add(server, keys, *ids)
    assert read(publisher) == [*ids[-100:]]
    assert read(publisher, limit=7) == [*ids[-100:-93]]
    assert read(publisher, since=ids[-3]) == [*ids[-2:]]


def test_what_is_beyond_the_age_is_not_read(publisher: Publisher, server: redis.Redis, keys: Keys):
    now = now_us()
    old, young = now - HOUR_US - 1_000_000, now - HOUR_US + 60_000_000
    add(server, keys, old - 1, old, young)
    assert read(publisher) == [young]


def test_a_log_of_what_is_too_old_is_empty(publisher: Publisher, server: redis.Redis, keys: Keys):
    add(server, keys, now_us() - 2 * HOUR_US)
    assert read(publisher) == []


def test_a_log_holds_little_more_than_it_may(publisher: Publisher, server: redis.Redis, keys: Keys):
    publisher.publish_many((CHANNEL, n) for n in range(300))
    assert 100 <= server.zcard(keys.log(CHANNEL)) < 100 + SLACK
    assert [each.data for each in publisher.history(CHANNEL)] == [*range(200, 300)]


def test_a_log_that_may_hold_few_never_holds_more(
    publisher: Publisher, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(Namespace("few", retention=Retention(3, 60)))
    publisher.publish_many(("few/1", n) for n in range(10))
    assert server.zcard(keys.log("few/1")) == 3


def test_what_is_too_old_leaves_the_log_within_a_minute_of_publishes(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    """The first message of a minute, by the clock of Redis, takes it away."""
    now = now_us()
    add(server, keys, now - 2 * HOUR_US, now - 61_000_000)
    publisher.publish(CHANNEL, 1)
    assert server.zcard(keys.log(CHANNEL)) == 2


def test_log_and_last_id_live_on_where_messages_come(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    add(server, keys, now_us() - 61_000_000)
    server.expire(keys.log(CHANNEL), 5)
    server.expire(keys.last(CHANNEL), 5)
    publisher.publish(CHANNEL, 1)
    assert 3_600 <= server.ttl(keys.log(CHANNEL)) <= 3_660
    assert 30 * 86_400 <= server.ttl(keys.last(CHANNEL)) <= 30 * 86_400 + 60


def test_a_log_without_its_last_id_expires_as_well(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    add(server, keys, now_us(), last=False)
    publisher.publish(CHANNEL, 1)
    assert server.ttl(keys.log(CHANNEL)) > 0
    assert server.ttl(keys.last(CHANNEL)) > 0


def test_a_retention_that_keeps_more_is_read_while_its_message_is_the_newest(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    more = Retention(300, 7_200)
    add(server, keys, now_us() - HOUR_US - 60_000_000)
    publisher.publish_many(Outgoing(CHANNEL, n, retention=more) for n in range(150))
    assert len(publisher.history(CHANNEL)) == 151
    assert server.ttl(keys.log(CHANNEL)) > 7_000
    publisher.publish(CHANNEL, "of the namespace")
    assert len(publisher.history(CHANNEL)) == 100


def test_a_retention_that_keeps_less_shortens_the_life_of_no_later_message(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, 1, retention=Retention(10, 1))
    publisher.publish(CHANNEL, 2)
    assert server.ttl(keys.log(CHANNEL)) >= 3_599


def test_an_entry_is_as_it_was(publisher: Publisher, server: redis.Redis, keys: Keys):
    """Nodes and publishers of the version before read it, and go on from it."""
    first, second = (publisher.publish(CHANNEL, n).id for n in range(2))
    log = [decode(each) for each in server.zrange(keys.log(CHANNEL), 0, -1)]
    assert [(each.id, each.prev, each.body) for each in log] == [
        (first, 0, b"0"),
        (second, first, b"1"),
    ]
    assert server.get(keys.last(CHANNEL)) == b"%d" % second
