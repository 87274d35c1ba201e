"""Messages that share a call of ``publish.lua``."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from publisher import Outgoing, Published, Publisher, Rejected, Unavailable
from publisher.contract.channels import DEFAULT_NAMESPACES
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from publisher.groups import BYTES, MESSAGES, grouped
from publisher.publication import Options, Publication
from tests.publisher.test_publishing import CHANNEL
from tests.support.redis_server import redis_server
from tests.support.redis_users import redis_user

OTHER = "notifications/u"


def publication(data: object, channel: str = CHANNEL, key: str | None = None) -> Publication:
    made = Publication(Outgoing(channel, data, key), "n", Options())
    made.follow(DEFAULT_NAMESPACES[made.namespace])
    return made


def sizes(*messages: Publication) -> list[int]:
    return [len(each) for each in grouped(messages)]


def test_a_call_is_bounded_in_messages_and_in_bytes():
    small, large = publication(1), publication("x" * (BYTES // 2))
    assert sizes(*[small] * (2 * MESSAGES + 1)) == [MESSAGES, MESSAGES, 1]
    assert sizes(*[large] * 5) == [2, 2, 1]
    assert sizes(small, publication("x" * 2 * BYTES), small) == [2, 1]


def test_messages_of_one_call_keep_their_order_and_the_chain_of_each_channel(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    channels = [CHANNEL, OTHER, CHANNEL, CHANNEL, OTHER]
    outcomes = publisher.publish_many((channel, n) for n, channel in enumerate(channels))
    for channel in (CHANNEL, OTHER):
        log = [decode(each) for each in server.zrange(keys.log(channel), 0, -1)]
        ids = [each.id for each in outcomes if each.channel == channel]
        assert ids == sorted(set(ids)) == [each.id for each in log]
        assert [each.prev for each in log] == [0, *ids[:-1]]


def test_many_messages_are_few_calls(tmp_path: Path, prefix: str):
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as admin:
        with Publisher.from_url(url, prefix=prefix) as publisher:
            publisher.publish(CHANNEL, 0)
            admin.config_resetstat()
            publisher.publish_many((CHANNEL, n) for n in range(10 * MESSAGES))
        assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 10


def test_a_message_that_redis_refuses_leaves_its_neighbours_alone(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    server.set(keys.log(OTHER), "not a log")
    outcomes = publisher.publish_many([(CHANNEL, 1), (OTHER, 2), (CHANNEL, 3)])
    assert [type(each) for each in outcomes] == [Published, Rejected, Published]
    refused = outcomes[1]
    assert isinstance(refused, Rejected)
    assert "WRONGTYPE" in refused.reason
    assert not refused.maybe_sent
    assert [each.data for each in publisher.history(CHANNEL)] == [1, 3]


@pytest.mark.parametrize("before", [None, b"1640995200000000"])
def test_a_refused_message_takes_no_id(
    publisher: Publisher, server: redis.Redis, keys: Keys, before: bytes | None
):
    """A last id without its message would look like a loss."""
    if before is not None:
        server.set(keys.last(OTHER), before)
    server.set(keys.log(OTHER), "not a log")
    publisher.publish_many([(CHANNEL, 1), (OTHER, 2)])
    assert server.get(keys.last(OTHER)) == before


def test_keys_that_one_message_may_not_use_are_no_reason_to_refuse_the_others(
    redis_url: str, prefix: str, publisher: Publisher
):
    rules = [f"~{prefix}:namespaces", f"~{prefix}:*{{-}}*", f"~{prefix}:*{{run-results/*"]
    rules += [f"&{prefix}:*", "+@all"]
    with (
        redis_user(redis_url, f"u{prefix}", rules) as url,
        Publisher.from_url(url, prefix=prefix) as limited,
    ):
        outcomes = limited.publish_many([(CHANNEL, 1), (OTHER, 2), (CHANNEL, 3)])
    assert [type(each) for each in outcomes] == [Published, Rejected, Published]
    assert [each.data for each in publisher.history(CHANNEL)] == [1, 3]


def test_with_keys_and_without_they_share_a_call(publisher: Publisher):
    messages = [Outgoing(CHANNEL, 1), Outgoing(CHANNEL, 2, "k"), Outgoing(CHANNEL, 3, "k")]
    _first, keyed, again = publisher.publish_many(messages)
    assert isinstance(again, Published)
    assert isinstance(keyed, Published)
    assert (again.id, again.duplicate, keyed.duplicate) == (keyed.id, True, False)
    assert [each.data for each in publisher.history(CHANNEL)] == [1, 2]


def test_a_full_redis_refuses_each_and_takes_them_once_there_is_room(tmp_path: Path, prefix: str):
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as admin:
        with Publisher.from_url(url, prefix=prefix, retries=0) as publisher:
            publisher.publish(CHANNEL, 0)
            admin.config_set("maxmemory", 1)
            outcomes = publisher.publish_many((CHANNEL, n) for n in range(3))
            assert {type(each) for each in outcomes} == {Unavailable}
            assert not any(each.maybe_sent for each in outcomes)
            admin.config_set("maxmemory", 0)
            assert isinstance(publisher.publish_many([(CHANNEL, 1)])[0], Published)
            assert [each.data for each in publisher.history(CHANNEL)] == [0, 1]


def test_a_primary_that_becomes_a_replica_is_left(tmp_path: Path, prefix: str):
    """Its refusal reaches the connection, which is not used again."""
    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as admin:
        with Publisher.from_url(url, prefix=prefix, retries=0) as publisher:
            publisher.publish_many([(CHANNEL, 1), (CHANNEL, 2)])
            before = admin.info("stats")["total_connections_received"]
            admin.replicaof("127.0.0.1", 1)
            outcomes = publisher.publish_many([(CHANNEL, 3), (CHANNEL, 4)])
            assert all(isinstance(each, Unavailable) for each in outcomes)
            admin.replicaof("NO", "ONE")
            outcomes = publisher.publish_many([(CHANNEL, 5), (CHANNEL, 6)])
        assert all(isinstance(each, Published) for each in outcomes)
        assert admin.info("stats")["total_connections_received"] == before + 1
