"""Publishing to a real Redis Cluster whose servers have changed since it was asked for its map."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from publisher import AsyncPublisher, Publisher
from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.support.redis_cluster import RedisCluster, redis_cluster

CHANNEL = "run-results/1"


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, sharded=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


async def test_after_a_failover_the_new_primarys_replicas_are_counted(
    cluster: RedisCluster, prefix: str, keys: Keys
):
    """The former primary leads there, and can wait for no replica itself."""
    with Publisher.from_url(cluster.url, prefix=prefix) as publisher:
        async with AsyncPublisher.from_url(cluster.url, prefix=prefix) as awaited:
            publisher.publish(CHANNEL, 1, min_replicas=1)
            await awaited.publish(CHANNEL, 2, min_replicas=1)
            former = cluster.owner(slot_of(keys.log(CHANNEL)))
            cluster.fail_over(cluster.replica_of(former))
            publisher.publish(CHANNEL, 3, min_replicas=1)
            await awaited.publish(CHANNEL, 4, min_replicas=1)
            assert [each.data for each in publisher.history(CHANNEL)] == [1, 2, 3, 4]


def prefer_names() -> Sequence[str]:
    return "--cluster-preferred-endpoint-type", "hostname"


def test_servers_without_names_are_found_where_names_are_preferred(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    keys: Keys,
):
    looked_up: list[Any] = []
    look_up = socket.getaddrinfo

    def note(host: Any, *more: Any, **options: Any) -> Any:
        looked_up.append(host)
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", note)
    folder = tmp_path_factory.mktemp("nameless")
    with (
        redis_cluster(folder, options=prefer_names, replicated=False) as cluster,
        Publisher.from_url(cluster.url, prefix=prefix) as publisher,
    ):
        publisher.publish(CHANNEL, 1)
        log = keys.log(CHANNEL)
        former = cluster.owner(slot_of(log))
        cluster.move_key(log, next(each for each in cluster.primaries if each is not former))
        with pytest.raises(redis.ResponseError, match=r"^MOVED \d+ \?:|^\d+ \?:"):
            former.run("ZCARD", log)
        publisher.publish(CHANNEL, 2)
        assert [each.data for each in publisher.history(CHANNEL)] == [1, 2]
    assert "?" not in looked_up
