"""Publishing, against a real server."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
import redis

from publisher import (
    AsyncPublisher,
    InvalidChannel,
    MessageTooLarge,
    Namespace,
    Outgoing,
    Owner,
    Published,
    Publisher,
    Retention,
    UnknownNamespace,
)
from publisher.contract.keys import Keys
from publisher.contract.message import decode
from tests.publisher.listening import listening
from tests.support import topology

CHANNEL = "run-results/session-1"
HOUR_US = 3_600_000_000


def entries(server: redis.Redis, keys: Keys, channel: str = CHANNEL) -> list[bytes]:
    return server.zrange(keys.log(channel), 0, -1)


def add_entry(server: redis.Redis, keys: Keys, id_: int, channel: str = CHANNEL) -> None:
    server.zadd(keys.log(channel), {b"%d:0:n:1" % id_: id_})


def announce(server: redis.Redis, keys: Keys, *namespaces: Namespace) -> None:
    rules = {each.name: orjson.dumps(each.to_dict()) for each in namespaces}
    server.hset(keys.namespaces, mapping=rules)


def now_us() -> int:
    return time.time_ns() // 1000


def test_an_id_is_the_time_in_microseconds(publisher: Publisher):
    before = now_us()
    published = publisher.publish(CHANNEL, 1)
    assert before <= published.id <= now_us()
    assert published == Published(published.id, CHANNEL, duplicate=False)


def test_ids_rise_and_each_entry_names_the_one_before(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    ids = [publisher.publish(CHANNEL, n).id for n in range(20)]
    log = [decode(entry) for entry in entries(server, keys)]
    assert ids == sorted(set(ids)) == [message.id for message in log]
    assert [message.prev for message in log] == [0, *ids[:-1]]
    assert [message.body for message in log] == [b"%d" % n for n in range(20)]


def test_ids_rise_though_the_clock_is_behind_the_last_one(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    ahead = now_us() + HOUR_US
    add_entry(server, keys, ahead)
    assert [publisher.publish(CHANNEL, n).id for n in range(3)] == [ahead + 1, ahead + 2, ahead + 3]
    assert [decode(entry).prev for entry in entries(server, keys)[1:]] == [
        ahead,
        ahead + 1,
        ahead + 2,
    ]


async def test_ids_stay_unique_when_many_publish_at_once(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    published = await asyncio.gather(*(async_publisher.publish(CHANNEL, n) for n in range(50)))
    log = [decode(entry) for entry in entries(server, keys)]
    assert sorted(each.id for each in published) == [message.id for message in log]
    assert [message.prev for message in log] == [0, *(message.id for message in log[:-1])]


def test_the_timestamp_is_the_id_in_milliseconds(publisher: Publisher):
    id_ = publisher.publish(CHANNEL, 1).id
    (entry,) = publisher.history(CHANNEL)
    assert entry.timestamp == id_ // 1000


def test_the_log_is_trimmed_by_count(publisher: Publisher, server: redis.Redis, keys: Keys):
    for n in range(5):
        publisher.publish(CHANNEL, n, retention=Retention(3, 60))
    assert [decode(entry).body for entry in entries(server, keys)] == [b"2", b"3", b"4"]


def test_the_log_is_trimmed_by_age(publisher: Publisher, server: redis.Redis, keys: Keys):
    add_entry(server, keys, now_us() - 25 * HOUR_US)
    add_entry(server, keys, now_us() - 23 * HOUR_US)
    publisher.publish(CHANNEL, 1)
    assert len(entries(server, keys)) == 2


def test_the_log_expires_as_a_whole_with_the_retention(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.publish(CHANNEL, 1)
    assert 86_400 <= server.ttl(keys.log(CHANNEL)) <= 86_460


def test_the_chain_goes_on_where_the_log_has_expired(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    before = publisher.publish(CHANNEL, 1)
    server.delete(keys.log(CHANNEL))
    publisher.publish(CHANNEL, 2)
    (entry,) = entries(server, keys)
    assert decode(entry).prev == before.id
    assert 30 * 86_400 <= server.ttl(keys.last(CHANNEL)) <= 30 * 86_400 + 60


def test_the_chain_goes_on_from_the_log_where_the_last_id_is_gone(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    before = publisher.publish(CHANNEL, 1)
    server.delete(keys.last(CHANNEL))
    publisher.publish(CHANNEL, 2)
    assert decode(entries(server, keys)[1]).prev == before.id


@pytest.mark.parametrize("limit", [200, 1_000])
def test_the_default_namespaces_keep_what_the_specification_says(publisher: Publisher, limit: int):
    channel = "run-results/s" if limit == 200 else "notifications/u"
    outcomes = publisher.publish_many((channel, n) for n in range(limit + 5))
    assert all(isinstance(each, Published) for each in outcomes)
    assert [each.data for each in publisher.history(channel)] == [*range(5, limit + 5)]


def test_what_is_published_live_is_the_entry_byte_for_byte(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    with listening(server, keys.live(CHANNEL)) as pubsub:
        publisher.publish(CHANNEL, {"text": "é:\n"})
        live = pubsub.get_message(timeout=10)
    assert live is not None
    assert [live["data"]] == entries(server, keys)
    assert decode(live["data"]).body == '{"text":"é:\\n"}'.encode()


def test_an_unlogged_message_is_only_published(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    announce(server, keys, Namespace("ticker", Owner.ANYONE, None))
    with listening(server, keys.live("ticker/x")) as pubsub:
        before = now_us()
        assert publisher.publish("ticker/x", 1) == Published(0, "ticker/x")
        live = pubsub.get_message(timeout=10)
    assert live is not None
    message = decode(live["data"])
    assert not message.logged
    assert before <= message.id <= now_us()
    assert not server.exists(keys.log("ticker/x"))


def test_a_new_namespace_needs_nothing_but_the_gateways_announcement(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    with pytest.raises(UnknownNamespace):
        publisher.publish("orders/1", 1)
    announce(server, keys, Namespace("orders", retention=Retention(2, 60)))
    for n in range(3):
        publisher.publish("orders/1", n)
    assert len(entries(server, keys, "orders/1")) == 2
    assert server.ttl(keys.log("orders/1")) <= 120


def test_each_of_many_has_its_outcome(publisher: Publisher):
    outcomes = publisher.publish_many(
        [
            (CHANNEL, 1),
            ("nonsense", 2),
            Outgoing(CHANNEL, "x" * (1024 * 1024)),
            ("missing/x", 4),
            Outgoing(CHANNEL, 5, idempotency_key="k"),
            Outgoing(CHANNEL, 6, idempotency_key="k"),
        ]
    )
    kinds = [Published, InvalidChannel, MessageTooLarge, UnknownNamespace, Published, Published]
    assert [type(each) for each in outcomes] == kinds
    fifth, sixth = outcomes[4:]
    assert isinstance(fifth, Published)
    assert sixth == Published(fifth.id, CHANNEL, duplicate=True)
    assert [entry.data for entry in publisher.history(CHANNEL)] == [1, 5]


def test_a_key_publishes_once_and_the_second_call_is_told_of_the_first(publisher: Publisher):
    first = publisher.publish(CHANNEL, "a", idempotency_key="order 7: paid")
    publisher.publish(CHANNEL, "between")
    second = publisher.publish(CHANNEL, "b", idempotency_key="order 7: paid")
    assert not first.duplicate
    assert second == Published(first.id, CHANNEL, duplicate=True)
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["a", "between"]


def test_a_key_is_found_far_back_in_the_log(publisher: Publisher):
    first = publisher.publish("notifications/u", 0, idempotency_key="k")
    publisher.publish_many(("notifications/u", n) for n in range(250))
    assert publisher.publish("notifications/u", 0, idempotency_key="k").id == first.id


def test_a_key_belongs_to_its_channel(publisher: Publisher):
    keyed = [
        publisher.publish(channel, 1, idempotency_key="k")
        for channel in (CHANNEL, "notifications/u")
    ]
    assert not any(each.duplicate for each in keyed)


def test_a_key_outlives_its_message_by_the_retentions_age_or_a_day(
    publisher: Publisher, server: redis.Redis, keys: Keys
):
    first = publisher.publish(CHANNEL, 1, idempotency_key="k", retention=Retention(1, 60))
    publisher.publish(CHANNEL, 2, retention=Retention(1, 60))
    assert publisher.publish(CHANNEL, 3, idempotency_key="k").id == first.id
    publisher.publish("notifications/u", 1, idempotency_key="k")
    results = topology.names(server, f"{keys.prefix}:result:*")
    lifetimes = {name: server.ttl(name) for name in results}
    assert sorted(lifetimes.values()) == pytest.approx([86_400, 7 * 86_400], abs=10)


def test_scripts_are_sent_again_after_redis_has_forgotten_them(
    publisher: Publisher, server: redis.Redis
):
    publisher.publish(CHANNEL, 1)
    server.script_flush()
    publisher.publish(CHANNEL, 2)
    server.script_flush()
    publisher.publish_many([(CHANNEL, 3), (CHANNEL, 4)])
    assert [entry.data for entry in publisher.history(CHANNEL)] == [1, 2, 3, 4]


def test_the_first_batch_takes_one_round_trip_and_stays_in_order_where_redis_knows_no_script(
    publisher: Publisher, server: redis.Redis
):
    server.script_flush()
    server.config_resetstat()
    publisher.publish_many([(CHANNEL, number) for number in range(150)])
    commands = server.info("commandstats")
    evals = [commands[f"cmdstat_{name}"]["calls"] for name in ("eval", "evalsha")]
    assert evals == [2, 5]  # one of each is from trying the rights; the others have 32 messages
    assert [entry.data for entry in publisher.history(CHANNEL)] == list(range(150))


async def test_scripts_are_sent_again_by_the_asyncio_client(
    async_publisher: AsyncPublisher, server: redis.Redis
):
    server.script_flush()
    await async_publisher.publish(CHANNEL, 1)
    assert [entry.data for entry in await async_publisher.history(CHANNEL)] == [1]


def test_the_publisher_connects_as_an_existing_client_does_and_leaves_it_open(
    primary_url: str, prefix: str
):
    with redis.Redis.from_url(primary_url, decode_responses=True) as client:
        with Publisher(client, prefix=prefix) as publisher:
            id_ = publisher.publish(CHANNEL, "é").id
            assert publisher.history(CHANNEL)[0].id == id_
        assert client.ping()


async def test_the_publisher_connects_as_an_existing_asyncio_client_does_and_leaves_it_open(
    primary_url: str, prefix: str
):
    async with redis.asyncio.Redis.from_url(primary_url, protocol=3) as client:
        async with AsyncPublisher(client, prefix=prefix) as publisher:
            await publisher.publish(CHANNEL, 1)
            assert await publisher.connections("u") == []
        assert await client.ping()


def test_a_notification_goes_to_the_users_channel(publisher: Publisher):
    publisher.notify(
        "u", title="新的访问请求", message="m", action="approve_request", request_id="r"
    )
    (entry,) = publisher.history("notifications/u")
    assert entry.data == {
        "title": "新的访问请求",
        "message": "m",
        "action": "approve_request",
        "requestId": "r",
    }


async def test_a_run_result_reaches_the_session_and_grants_it(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    await async_publisher.run_result(
        "s", stdout="o", stderr="e", exit_code=1, duration=150, user="u"
    )
    (entry,) = await async_publisher.history("run-results/s")
    assert entry.data == {"stdout": "o", "stderr": "e", "exitCode": 1, "duration": 150}
    assert server.zscore(keys.grant("run-results/s"), "u") is not None


def test_history_is_paged_from_any_position(publisher: Publisher):
    ids = [publisher.publish(CHANNEL, n).id for n in range(5)]
    assert [entry.id for entry in publisher.history(CHANNEL)] == ids
    assert [entry.data for entry in publisher.history(CHANNEL, limit=2)] == [0, 1]
    assert [entry.data for entry in publisher.history(CHANNEL, since=ids[1], limit=2)] == [2, 3]
    assert publisher.history(CHANNEL, since=ids[-1]) == []
    assert publisher.history("run-results/empty") == []


def test_history_reads_a_log_longer_than_a_page(publisher: Publisher):
    publisher.publish_many(("notifications/u", n) for n in range(1_000))
    assert [entry.data for entry in publisher.history("notifications/u")] == list(range(1_000))


def test_history_leaves_out_what_was_removed_and_ends_before_what_it_cannot_read(
    publisher: Publisher, server: redis.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
):
    now = now_us()
    written = (b"n:10", b"n:", b"n:30", b"n+later:40", b"n:50")
    entries = [b"%d:%d:%b" % (now + n, now + n - 1, each) for n, each in enumerate(written)]
    server.zadd(keys.log(CHANNEL), {entry: decode(entry).id for entry in entries})
    server.set(keys.last(CHANNEL), now + len(entries) - 1)
    assert [entry.data for entry in publisher.history(CHANNEL)] == [10, 30]
    assert "extension_unknown" in caplog.text
