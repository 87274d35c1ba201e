"""Two systems on two databases of one server, under one prefix. Redis' pub/sub knows no databases."""

from __future__ import annotations

import redis

from publisher import AsyncPublisher, Publisher
from publisher.contract.keys import Keys
from tests.publisher.listening import listening
from tests.support.topology import on_database

CHANNEL = "run-results/s"


def test_a_publisher_on_database_1_does_not_reach_who_listens_on_database_0(
    redis_url: str, server: redis.Redis, publisher: Publisher, prefix: str
):
    with (
        Publisher.from_url(on_database(redis_url, 1), prefix=prefix) as other,
        listening(server, Keys(prefix).live(CHANNEL)) as first,
        listening(server, Keys(prefix, 1).live(CHANNEL)) as second,
    ):
        other.publish(CHANNEL, "of 1")
        publisher.publish(CHANNEL, "of 0")
        heard = [pubsub.get_message(timeout=10) for pubsub in (first, second)]
        assert [message and message["data"][-6:] for message in heard] == [b'"of 0"', b'"of 1"']
        assert [entry.data for entry in other.history(CHANNEL)] == ["of 1"]
    assert [entry.data for entry in publisher.history(CHANNEL)] == ["of 0"]


async def test_a_clients_own_database_counts(primary_url: str, server: redis.Redis, prefix: str):
    url = on_database(primary_url, 1)
    with listening(server, Keys(prefix, 1).live(CHANNEL)) as pubsub, redis.Redis.from_url(url) as c:
        Publisher(c, prefix=prefix).publish(CHANNEL, 1)
        async with (
            redis.asyncio.Redis.from_url(url) as client,
            AsyncPublisher(client, prefix=prefix) as publisher,
        ):
            await publisher.publish(CHANNEL, 2)
        heard = [pubsub.get_message(timeout=10) for _ in range(2)]
    assert [message and message["data"][-1:] for message in heard] == [b"1", b"2"]
