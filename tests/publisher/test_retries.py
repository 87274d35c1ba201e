"""Retries whose first try is not simply lost: it comes late, or its message is no longer retained."""

from __future__ import annotations

import pytest
import redis

from publisher import AsyncPublisher, Outgoing, Published, Publisher, Rejected, Retention
from publisher.contract.keys import Keys
from tests.publisher.listening import listening
from tests.publisher.reply_cutter import ReplyCutter
from tests.publisher.test_publishing import CHANNEL
from tests.support import topology

NEWEST_ONLY = Retention(1, 3_600)


def test_a_try_that_arrives_after_its_retry_publishes_nothing(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, server: redis.Redis, keys: Keys
):
    with Publisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        hindered.publish("run-results/other", 0)
        with listening(server, keys.live(CHANNEL)) as pubsub:
            cutter.hold(b"EVALSHA")
            published = hindered.publish(CHANNEL, "once")
            cutter.release()
            assert cutter.late.wait(10)
            server.publish(keys.live(CHANNEL), "end")
            heard = [pubsub.get_message(timeout=10) for _ in range(2)]
    assert [entry.id for entry in publisher.history(CHANNEL)] == [published.id]
    assert [message and message["data"][-6:] for message in heard] == [b'"once"', b"end"]


def test_it_publishes_nothing_either_once_the_retrys_message_is_no_longer_retained(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    with Publisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.hold(b"EVALSHA")
        hindered.publish(CHANNEL, "old", retention=NEWEST_ONLY)
        publisher.publish(CHANNEL, "new", retention=NEWEST_ONLY)
        cutter.release()
        assert cutter.late.wait(10)
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["new"]


async def test_the_asyncio_client_has_its_late_tries_ignored_too(
    cutter: ReplyCutter, async_publisher: AsyncPublisher, prefix: str
):
    async with AsyncPublisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        await hindered.publish("run-results/other", 0)
        cutter.hold(b"EVALSHA")
        outcomes = await hindered.publish_many([(CHANNEL, 1), (CHANNEL, 2)])
        cutter.release()
        assert cutter.late.wait(10)
    ids = [each.id for each in outcomes if isinstance(each, Published)]
    assert [entry.id for entry in await async_publisher.history(CHANNEL)] == ids
    assert len(ids) == 2


def test_a_note_of_a_retry_is_kept_for_minutes(
    cutter: ReplyCutter, prefix: str, server: redis.Redis
):
    with Publisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        hindered.publish(CHANNEL, 0)
        cutter.hold(b"EVALSHA")
        hindered.publish(CHANNEL, 1)
    (note,) = topology.names(server, f"{prefix}:result:*")
    assert 500 < server.ttl(note) <= 600


def test_where_others_messages_have_displaced_what_may_have_been_published_nobody_guesses(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    """It was published and has been replaced: once more, it would replace what is newer."""
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(
            b"EVALSHA",
            meanwhile=lambda: publisher.publish(CHANNEL, "new", retention=NEWEST_ONLY),
        )
        with pytest.raises(Rejected, match="since the first try") as caught:
            hindered.publish(CHANNEL, "old", retention=NEWEST_ONLY)
    assert cutter.cut_replies == 1
    assert caught.value.maybe_sent
    assert not caught.value.retryable
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["new"]


def test_nor_where_the_log_is_gone_as_a_whole(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, server: redis.Redis, keys: Keys
):
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(b"EVALSHA", meanwhile=lambda: server.delete(keys.log(CHANNEL)))
        with pytest.raises(Rejected, match="since the first try"):
            hindered.publish(CHANNEL, 1)
    assert publisher.history(CHANNEL) == []


def test_what_was_displaced_before_the_first_try_is_no_reason_for_doubt(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    for n in range(3):
        publisher.publish(CHANNEL, n, retention=NEWEST_ONLY)
    with Publisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.hold(b"EVALSHA")
        hindered.publish(CHANNEL, "late", retention=NEWEST_ONLY)
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["late"]


def test_others_messages_are_no_reason_for_doubt_while_all_is_retained(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(b"EVALSHA", meanwhile=lambda: publisher.publish(CHANNEL, "theirs"))
        hindered.publish(CHANNEL, "ours")
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["ours", "theirs"]


def test_without_its_data_redis_is_given_the_message_again(
    cutter: ReplyCutter, publisher: Publisher, prefix: str, server: redis.Redis, keys: Keys
):
    """As after a failover to a replica that did not have it."""
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(
            b"EVALSHA",
            meanwhile=lambda: server.delete(keys.log(CHANNEL), keys.last(CHANNEL)),
        )
        hindered.publish(CHANNEL, 1)
    assert [entry.data for entry in publisher.history(CHANNEL)] == [1]


def more_than_are_retained() -> list[Outgoing]:
    return [Outgoing(CHANNEL, n, retention=Retention(3, 3_600)) for n in range(10)]


def test_of_more_than_a_log_retains_all_are_published_once_in_their_order(
    cutter: ReplyCutter, prefix: str, server: redis.Redis, keys: Keys
):
    with Publisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        hindered.publish("run-results/other", 0)
        with listening(server, keys.live(CHANNEL)) as pubsub:
            cutter.hold(b"EVALSHA")
            outcomes = hindered.publish_many(more_than_are_retained())
            cutter.release()
            assert cutter.late.wait(10)
            server.publish(keys.live(CHANNEL), ":end")
            heard = [pubsub.get_message(timeout=10) for _ in range(11)]
    live = [message["data"].split(b":")[-1] for message in heard if message]
    assert live == [*(b"%d" % n for n in range(10)), b"end"]
    ids = [each.id for each in outcomes if isinstance(each, Published)]
    assert ids == sorted(ids)
    assert len(ids) == 10


def test_of_more_than_a_log_retains_none_is_published_again_when_the_replies_are_lost(
    cutter: ReplyCutter, publisher: Publisher, prefix: str
):
    with Publisher.from_url(cutter.url, prefix=prefix) as hindered:
        hindered.publish("run-results/other", 0)
        cutter.cut(b"EVALSHA")
        outcomes = hindered.publish_many(more_than_are_retained())
    retained = publisher.history(CHANNEL)
    assert [entry.data for entry in retained] == [7, 8, 9]
    displaced, found = outcomes[:7], outcomes[7:]
    assert all(isinstance(each, Rejected) and each.maybe_sent for each in displaced)
    assert found == [Published(entry.id, CHANNEL) for entry in retained]
