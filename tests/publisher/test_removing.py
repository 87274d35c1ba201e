"""Messages that are taken out again: what stays of them in Redis, and what readers see."""

from __future__ import annotations

import time
from random import Random

import pytest
import redis

from gateway.core.reader import Reader, Verdict
from publisher import (
    AsyncPublisher,
    InvalidChannel,
    InvalidData,
    Outgoing,
    Publisher,
    Retention,
    Unavailable,
)
from publisher.contract import calls
from publisher.contract.channels import Namespace, Owner
from publisher.contract.keys import Keys
from publisher.contract.message import LogPage, Message, decode
from tests.publisher.announcing import Announce
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology

CHANNEL = "run-results/s"


def read(
    server: redis.Redis, keys: Keys, since: int, limit: int = 1_000, kept: Retention | None = None
) -> list[Message]:
    """What a node reads behind a position, tombstones too, page by page."""
    found: list[Message] = []
    while True:
        call = calls.read_log(keys, CHANNEL, "", since, limit, kept)
        page = calls.parse_log(server.execute_command(*call.whole()))
        found += page.messages
        if page.complete:
            return found
        since = page.messages[-1].id


def is_whole(
    server: redis.Redis,
    keys: Keys,
    position: int,
    limit: int = 1_000,
    kept: Retention | None = None,
) -> bool:
    """Whether who holds ``position`` is told of no loss."""
    reader = Reader()
    reader.position = position
    messages = read(server, keys, position, limit, kept)
    page = LogPage(position, messages[-1].id if messages else position, messages)
    return reader.judge_page(page, position) is not Verdict.LOST


def microseconds(server: redis.Redis) -> int:
    """Redis' clock."""
    seconds, rest = server.time()
    return int(seconds * 1_000_000 + rest)


def test_a_deleted_message_is_gone_and_its_place_is_kept(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first, second, third = (publisher.publish(CHANNEL, text).id for text in ("a", "secret", "c"))
    assert publisher.delete(CHANNEL, second)
    assert [entry.id for entry in publisher.history(CHANNEL)] == [first, third]
    log = [decode(entry) for entry in server.zrange(keys.log(CHANNEL), 0, -1)]
    assert [(each.id, each.prev) for each in log] == [(first, 0), (third, second)]
    ((entry, score),) = server.zrange(keys.removed(CHANNEL), 0, -1, withscores=True)
    tombstone = decode(entry)
    assert (tombstone.id, tombstone.prev, int(score)) == (second, first, second)
    assert tombstone.removed
    assert b"secret" not in entry
    assert [(each.id, each.removed) for each in read(server, keys, 0)] == [
        (first, False),
        (second, True),
        (third, False),
    ]


async def test_the_newest_message_can_be_deleted_and_the_chain_goes_on(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    gone = await async_publisher.publish(CHANNEL, 1)
    assert await async_publisher.delete(CHANNEL, gone.id)
    kept = await async_publisher.publish(CHANNEL, 2)
    assert decode(server.zrange(keys.log(CHANNEL), -1, -1)[0]).prev == gone.id
    assert [entry.id for entry in await async_publisher.history(CHANNEL)] == [kept.id]


def test_what_is_not_there_is_told(publisher: Publisher, server: redis.Redis, keys: Keys):
    sent = publisher.publish(CHANNEL, 1).id
    assert not publisher.delete(CHANNEL, sent + 1)
    assert not publisher.delete("run-results/other", sent)
    assert publisher.delete(CHANNEL, sent)
    assert not publisher.delete(CHANNEL, sent)
    assert server.zcard(keys.log(CHANNEL)) == 1
    assert not server.exists(keys.log("run-results/other"))


@pytest.mark.parametrize("identifier", [0, -1, "1", True, 2**53])
def test_what_is_no_id_is_refused(publisher: Publisher, identifier: object):
    with pytest.raises(InvalidData, match="id must be an integer"):
        publisher.delete(CHANNEL, identifier)  # type: ignore[arg-type]


def test_a_channel_that_cannot_be_is_refused(publisher: Publisher):
    with pytest.raises(InvalidChannel):
        publisher.delete("nothing", 1)


def test_a_key_remembers_a_message_that_was_deleted(publisher: Publisher):
    sent = publisher.publish(CHANNEL, 1, idempotency_key="k")
    publisher.delete(CHANNEL, sent.id)
    again = publisher.publish(CHANNEL, 1, idempotency_key="k")
    assert (again.id, again.duplicate) == (sent.id, True)
    assert publisher.history(CHANNEL) == []


def test_a_retry_finds_its_message_although_it_was_deleted_meanwhile(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    """By the nonce, which the tombstone keeps."""

    def delete() -> None:
        (entry,) = publisher.history(CHANNEL)
        assert publisher.delete(CHANNEL, entry.id)

    with Publisher.from_url(cutter.url, prefix=prefix) as cut_off:
        cutter.cut(b'"lost"', meanwhile=delete)
        sent = cut_off.publish(CHANNEL, "lost")
    assert cutter.cut_replies == 1
    assert publisher.history(CHANNEL) == []
    assert not publisher.delete(CHANNEL, sent.id)


def test_a_lost_reply_does_no_harm(cutter: ReplyCutter, publisher: Publisher, prefix: str):
    kept, gone = publisher.publish(CHANNEL, 1).id, publisher.publish(CHANNEL, 2).id
    with Publisher.from_url(cutter.url, prefix=prefix) as cut_off:
        assert not cut_off.delete(CHANNEL, kept + 1)  # learns its rights
        cutter.cut(str(gone).encode(), 1)
        assert not cut_off.delete(CHANNEL, gone)  # the first try has removed it
    assert cutter.cut_replies == 1
    assert [entry.id for entry in publisher.history(CHANNEL)] == [kept]


@pytest.mark.one_server("it has no replica")
def test_one_that_replicas_have_not_confirmed_is_told(publisher_url: str, prefix: str):
    with Publisher.from_url(
        publisher_url, prefix=prefix, retries=1, replica_timeout=0.01
    ) as publisher:
        sent = publisher.publish(CHANNEL, 1)
    with (
        Publisher.from_url(
            publisher_url, prefix=prefix, retries=1, min_replicas=1, replica_timeout=0.01
        ) as demanding,
        pytest.raises(Unavailable, match="only 0 of 1 replicas") as caught,
    ):
        demanding.delete(CHANNEL, sent.id)
    assert caught.value.maybe_sent


def test_deleting_costs_the_same_in_a_long_log(
    publisher: Publisher, server: topology.Looking, keys: Keys
):
    """Few commands, whatever the log holds."""
    topology.require_one_server("its counts of commands are looked at")
    sent = publisher.publish_many(("notifications/u", n) for n in range(500))
    publisher.delete("notifications/u", sent[0].id)
    server.config_resetstat()
    assert publisher.delete("notifications/u", sent[250].id)
    stats = server.info("commandstats")
    used = {name: stats[f"cmdstat_{name}"]["calls"] for name in ("zrangebyscore", "zrem", "zadd")}
    assert used == {"zrangebyscore": 2, "zrem": 1, "zadd": 1}


def data(publisher: Publisher, channel: str = CHANNEL) -> list[object]:
    return [entry.data for entry in publisher.history(channel)]


def test_a_newer_message_takes_the_older_one_with_its_key_out(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, "kept")
    first = publisher.publish(CHANNEL, "old secret", collapse_key="a")
    publisher.publish(CHANNEL, "other", collapse_key="b")
    publisher.publish(CHANNEL, "new", collapse_key="a")
    publisher.publish("run-results/t", "elsewhere", collapse_key="a")
    assert data(publisher) == ["kept", "other", "new"]
    entries = read(server, keys, 0)
    assert [each.prev for each in entries[1:]] == [each.id for each in entries[:-1]]
    assert [each.id for each in entries if each.removed] == [first.id]


def test_messages_of_one_call_collapse_in_their_order(publisher: Publisher):
    messages = [
        Outgoing(CHANNEL, (key, n), collapse_key=key) for n in range(40) for key in ("a", "b")
    ]
    publisher.publish_many([*messages, (CHANNEL, "last")])
    assert data(publisher) == [["a", 39], ["b", 39], "last"]


def test_a_duplicate_takes_nothing_out(publisher: Publisher):
    publisher.publish(CHANNEL, 1, collapse_key="a", idempotency_key="k1")
    publisher.publish(CHANNEL, 2, collapse_key="a", idempotency_key="k2")
    again = publisher.publish(CHANNEL, 1, collapse_key="a", idempotency_key="k1")
    assert again.duplicate
    assert data(publisher) == [2]


def test_a_key_is_remembered_as_long_as_the_log(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, 1, collapse_key="a")
    (name,) = topology.names(server, keys.collapse(CHANNEL, "*"))
    assert 86_400 < server.ttl(name) <= 86_460
    publisher.publish(CHANNEL, 2, collapse_key="a", retention=Retention(5, 2 * 86_400))
    assert 2 * 86_400 < server.ttl(name) <= 2 * 86_460
    assert data(publisher) == [2]


def test_an_older_message_that_is_gone_already_is_no_error(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    old = publisher.publish(CHANNEL, 1, collapse_key="a")
    assert publisher.delete(CHANNEL, old.id)
    publisher.publish(CHANNEL, 2, collapse_key="a")
    server.delete(keys.log(CHANNEL))
    publisher.publish(CHANNEL, 3, collapse_key="a")
    assert data(publisher) == [3]


def test_a_lost_reply_collapses_once(cutter: ReplyCutter, publisher: Publisher, prefix: str):
    publisher.publish(CHANNEL, 1, collapse_key="a")
    with Publisher.from_url(cutter.url, prefix=prefix) as cut_off:
        cutter.cut(b'"lost"')
        sent = cut_off.publish(CHANNEL, "lost", collapse_key="a")
    assert cutter.cut_replies == 1
    assert [(entry.id, entry.data) for entry in publisher.history(CHANNEL)] == [(sent.id, "lost")]


@pytest.mark.parametrize("key", ["", 7, "\ud800"])
def test_what_is_no_collapse_key_is_refused(publisher: Publisher, key: object):
    with pytest.raises(InvalidData, match="collapse_key"):
        publisher.publish(CHANNEL, 1, collapse_key=key)  # type: ignore[arg-type]


async def test_a_collapse_key_needs_a_log(async_publisher: AsyncPublisher, announce: Announce):
    announce(Namespace("ticker", Owner.ANYONE, None))
    with pytest.raises(InvalidData, match="collapse_key needs a log"):
        await async_publisher.publish("ticker/x", 1, collapse_key="a")


@pytest.mark.one_server("its counts of commands are looked at")
def test_collapsing_costs_the_same_in_a_long_log_and_nothing_where_it_is_not_asked_for(
    publisher: Publisher, server: redis.Redis
):
    publisher.publish("notifications/u", 0, collapse_key="a")
    publisher.publish_many(("notifications/u", n) for n in range(500))
    commands = ("get", "set", "zrangebyscore", "zrem")

    def used(key: str | None) -> dict[str, int]:
        server.config_resetstat()
        publisher.publish("notifications/u", 1, collapse_key=key)
        stats = server.info("commandstats")
        return {each: stats.get(f"cmdstat_{each}", {"calls": 0})["calls"] for each in commands}

    assert used("a") == {"get": 2, "set": 2, "zrangebyscore": 2, "zrem": 1}
    assert used(None) == {"get": 1, "set": 1, "zrangebyscore": 0, "zrem": 0}


def keeping(messages: int) -> Namespace:
    return Namespace("run-results", Owner.GRANT, Retention(messages, 3_600))


def test_what_a_newer_message_replaces_takes_no_place_of_others(
    publisher: Publisher, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(keeping(10))
    publisher.publish_many((CHANNEL, n) for n in range(9))
    publisher.publish_many(Outgoing(CHANNEL, {"unread": n}, collapse_key="u") for n in range(200))
    assert data(publisher) == [*range(9), {"unread": 199}]
    publisher.publish(CHANNEL, "one more")
    assert data(publisher) == [*range(1, 9), {"unread": 199}, "one more"]


def test_there_are_never_more_tombstones_than_messages_and_one(
    publisher: Publisher, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(keeping(10))
    for n in range(60):
        publisher.publish(CHANNEL, n)
        publisher.publish_many(Outgoing(CHANNEL, n, collapse_key=key) for key in ("a", "b", "a"))
        deleted = publisher.publish(CHANNEL, "deleted")
        assert publisher.delete(CHANNEL, deleted.id)
    assert server.zcard(keys.removed(CHANNEL)) <= 11
    assert 0 < server.ttl(keys.removed(CHANNEL)) <= server.ttl(keys.log(CHANNEL))
    assert max(map(len, server.zrange(keys.removed(CHANNEL), 0, -1))) <= 1_100


@pytest.mark.parametrize("limit", [1, 3, 1_000])
def test_whoever_holds_one_of_many_that_were_taken_out_is_told_of_no_loss(
    publisher: Publisher, server: redis.Redis, keys: Keys, limit: int
):
    random = Random(7)
    sent = [publisher.publish(CHANNEL, 0).id]
    for n in range(1, 120):
        key = random.choice((None, "a", "b"))
        sent.append(publisher.publish(CHANNEL, n, collapse_key=key).id)
        if random.random() < 0.3:
            publisher.delete(CHANNEL, random.choice(sent))
        positions = random.sample(sent, min(8, len(sent)))
        assert all(is_whole(server, keys, each, limit) for each in (0, *positions))
    kept = [each.id for each in read(server, keys, 0, limit) if not each.removed]
    assert kept == [each.id for each in publisher.history(CHANNEL)]


def test_what_was_lost_is_told_also_behind_what_was_taken_out(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first, replaced, lost, last = (
        publisher.publish(CHANNEL, n, collapse_key="a" if n in {1, 3} else None).id
        for n in range(4)
    )
    server.zremrangebyscore(keys.log(CHANNEL), lost, lost)
    assert not is_whole(server, keys, first)
    assert not is_whole(server, keys, replaced)
    assert is_whole(server, keys, lost)
    assert is_whole(server, keys, last)


def test_no_loss_is_told_where_all_that_has_become_too_old_was_taken_out(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    """As of a user who was away for longer than messages are kept while a counter went on."""
    confirmed, replaced = (
        publisher.publish(CHANNEL, n, collapse_key=key).id for n, key in ((1, None), (2, "k"))
    )
    while microseconds(server) < replaced + 1_000_000:
        time.sleep(0.05)
    newest = publisher.publish(CHANNEL, 3, collapse_key="k").id
    kept = Retention(max_messages=100, max_age_seconds=1)
    assert [each.id for each in read(server, keys, confirmed, kept=kept) if not each.removed] == [
        newest
    ]
    assert is_whole(server, keys, confirmed, kept=kept)
    assert not is_whole(server, keys, confirmed - 1, kept=kept)


@pytest.mark.parametrize("times", [2, 5])
def test_what_redis_has_lost_is_not_taken_for_what_was_taken_out(
    publisher: Publisher, server: redis.Redis, keys: Keys, times: int
):
    """Where the chain has begun anew, the first tombstone stands for nothing that was before."""
    held, lost = (publisher.publish(CHANNEL, n).id for n in range(2))
    server.delete(keys.log(CHANNEL), keys.last(CHANNEL))
    ids = [publisher.publish(CHANNEL, n, collapse_key="a").id for n in range(times)]
    assert len(publisher.history(CHANNEL)) == 1
    assert not is_whole(server, keys, held)
    assert not is_whole(server, keys, lost)
    assert all(is_whole(server, keys, each) for each in (0, *ids))


def test_a_message_is_confirmed_although_it_was_taken_out_with_its_neighbours(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    ids = [publisher.publish(CHANNEL, n, collapse_key="a").id for n in range(4)]
    assert server.zcard(keys.removed(CHANNEL)) == 1

    def confirm(identifier: int) -> float | None:
        call = calls.confirm(keys, CHANNEL, 60, [("user", identifier)])
        server.execute_command(*call.whole())
        return server.zscore(keys.confirmed(CHANNEL), "user")

    assert confirm(ids[1]) == ids[1]
    assert confirm(ids[3]) == ids[3]


def test_a_retry_finds_its_message_although_newer_ones_have_replaced_it(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    publisher.publish(CHANNEL, 0, collapse_key="a")

    def replace() -> None:
        for n in range(1, 6):
            publisher.publish(CHANNEL, n, collapse_key="a")

    with Publisher.from_url(cutter.url, prefix=prefix) as cut_off:
        cutter.cut(b'"lost"', meanwhile=replace)
        cut_off.publish(CHANNEL, "lost", collapse_key="a")
    assert cutter.cut_replies == 1
    assert data(publisher) == [5]


@pytest.mark.parametrize("before", [0, 60])  # a tombstone has room for the names of some
def test_a_retry_publishes_what_has_not_arrived_where_all_else_was_taken_out(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, before: int
):
    for n in range(before):
        publisher.publish(CHANNEL, n, collapse_key="a")

    def replace() -> None:
        for n in range(5):
            publisher.publish(CHANNEL, n, collapse_key="a")

    with Publisher.from_url(cutter.url, prefix=prefix) as cut_off:
        cutter.lose(b'"late"', meanwhile=replace)
        cut_off.publish(CHANNEL, "late", collapse_key="a")
    assert data(publisher) == ["late"]


def test_a_log_whose_only_message_was_taken_out_still_expires(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    for _ in range(40):
        sent = publisher.publish(CHANNEL, 1)
        assert server.ttl(keys.log(CHANNEL)) > 0
        assert publisher.delete(CHANNEL, sent.id)
