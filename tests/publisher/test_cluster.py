"""Publishing to a real Redis Cluster."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest
import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.cluster import ClusterNode

from publisher import (
    EVERYBODY,
    AsyncPublisher,
    InvalidData,
    InvalidURL,
    Outgoing,
    Published,
    Publisher,
    PublisherError,
    Rejected,
    Retention,
    Unavailable,
)
from publisher.contract import rights
from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.support.redis_cluster import ClusterServer, RedisCluster, redis_cluster, wait_until

SESSIONS = [f"run-results/{number}" for number in range(60)]
"""Channels of all three primaries."""

KEPT = Retention(max_messages=100_000, max_age_seconds=3_600)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One that the test may break."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix, sharded=True)


@pytest.fixture
def publisher(cluster: RedisCluster, prefix: str) -> Iterator[Publisher]:
    with Publisher.from_url(cluster.url, prefix=prefix) as publisher:
        yield publisher


def owner(cluster: RedisCluster, keys: Keys, channel: str) -> ClusterServer:
    return cluster.owner(slot_of(keys.log(channel)))


def failures(outcomes: list[Published | PublisherError]) -> list[Published | PublisherError]:
    return [each for each in outcomes if not isinstance(each, Published)]


def datas(publisher: Publisher, channel: str) -> list[Any]:
    return [each.data for each in publisher.history(channel)]


# -- where nothing goes wrong ----------------------------------------------------------------


def test_a_message_goes_to_the_primary_of_its_channel(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    for channel in SESSIONS[:12]:
        publisher.publish(channel, channel)
        assert datas(publisher, channel) == [channel]
        assert owner(cluster, keys, channel).run("EXISTS", keys.log(channel)) == 1


@pytest.mark.parametrize("logged", [True, False])
def test_what_is_published_is_heard_by_sharded_pubsub(
    cluster: RedisCluster, publisher: Publisher, keys: Keys, logged: bool
):
    channel = SESSIONS[0]
    if not logged:
        server = cluster.owner(slot_of(keys.namespaces))
        rules = '{"owner":"anyone","retention":null}'
        server.run("HSET", keys.namespaces, "ticker", rules)
        channel = "ticker/x"
    with redis.Redis(port=owner(cluster, keys, channel).port) as client:
        pubsub = client.pubsub()
        pubsub.ssubscribe(keys.live(channel))
        assert pubsub.get_message(timeout=5)
        publisher.publish(channel, {"n": 1})
        message = pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message is not None
    assert b'{"n":1}' in message["data"]


def test_many_are_spread_over_all_primaries_in_the_order_of_each_channel(publisher: Publisher):
    messages = [(channel, number) for number in range(20) for channel in SESSIONS]
    assert not failures(publisher.publish_many(messages))
    for channel in SESSIONS:
        assert datas(publisher, channel) == list(range(20))


async def test_awaited_ones_that_are_under_way_together_all_arrive(
    cluster: RedisCluster, prefix: str
):
    async with AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher:
        await asyncio.gather(*(publisher.publish(channel, 1) for channel in 5 * SESSIONS))
        for channel in SESSIONS[:10]:
            assert len(await publisher.history(channel)) == 5
        outcomes = await publisher.publish_many([(channel, 2) for channel in SESSIONS])
        assert not failures(outcomes)


def test_a_keyed_message_is_published_once(publisher: Publisher):
    for channel in SESSIONS[:6]:
        first = publisher.publish(channel, 1, idempotency_key="k")
        again = publisher.publish(channel, 1, idempotency_key="k")
        assert again.duplicate
        assert again.id == first.id


def test_replicas_can_be_waited_for_at_each_primary(publisher: Publisher):
    messages = [Outgoing(channel, 1, min_replicas=1) for channel in SESSIONS[:12]]
    assert not failures(publisher.publish_many(messages))
    publisher.publish(SESSIONS[0], 2, min_replicas=1)


def test_grants_are_told_to_all_nodes_and_on_the_channels_shard(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    channel = SESSIONS[1]
    server = owner(cluster, keys, channel)
    other = next(each for each in cluster.living if each is not server)
    with redis.Redis(port=server.port) as client, redis.Redis(port=other.port) as distant:
        granted, control = client.pubsub(), distant.pubsub()
        granted.ssubscribe(keys.granted(channel))
        control.subscribe(keys.control)
        assert granted.get_message(timeout=5)
        assert control.get_message(timeout=5)
        publisher.grant(channel, "u")
        assert granted.get_message(timeout=5)
        publisher.grant(channel, EVERYBODY)
        assert publisher.revoke(channel, "u")
        assert not publisher.revoke(channel, "u")
        # Before it comes what tries the right to it.
        while (message := control.get_message(timeout=5)) is not None:
            if b"grant_revoked" in message["data"]:
                break
    assert message is not None


def test_connections_and_a_ping_are_answered(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    publisher.ping()
    assert publisher.connections("u") == []
    cluster.owner(slot_of(keys.nodes)).run("ZADD", keys.nodes, "inf", "node")
    cluster.owner(slot_of(keys.connections("u"))).run(
        "ZADD", keys.connections("u"), "9e15", "node/1"
    )
    assert [each.node for each in publisher.connections("u")] == ["node"]


async def test_a_client_object_of_a_cluster_is_taken(cluster: RedisCluster, prefix: str):
    ports = [each.port for each in cluster.living[:2]]
    nodes = [ClusterNode("127.0.0.1", port) for port in ports]
    with (
        redis.RedisCluster(startup_nodes=nodes) as client,
        Publisher(client, prefix=prefix) as publisher,
    ):
        assert not failures(publisher.publish_many([(each, 1) for each in SESSIONS]))
        with pytest.raises(InvalidData, match="ClusterPipeline; pass the client"):
            Publisher(client.pipeline())
    distant = redis.asyncio.RedisCluster(
        startup_nodes=[AsyncClusterNode("127.0.0.1", port) for port in ports]
    )
    async with AsyncPublisher(distant, prefix=prefix) as awaited:
        assert not failures(await awaited.publish_many([(each, 2) for each in SESSIONS]))
    await distant.aclose()


def test_a_publisher_of_a_url_can_be_pickled(cluster: RedisCluster, publisher: Publisher):
    with pickle.loads(pickle.dumps(publisher)) as copy:
        copy.publish(SESSIONS[0], 1)
        assert datas(publisher, SESSIONS[0]) == [1]


@pytest.mark.one_server("it is none of a cluster")
async def test_a_server_that_is_in_no_cluster_says_so(publish_once: Any, redis_url: str):
    url = redis_url.replace("redis://", "redis+cluster://")
    with pytest.raises(Rejected, match=r"no Redis Cluster.*redis://"):
        await publish_once(url)


async def test_a_cluster_by_the_url_of_one_server_says_so(
    publish_once: Any, cluster: RedisCluster, keys: Keys
):
    """Also by that of the server which has the channel: what it takes no node would hear."""
    server = owner(cluster, keys, "notifications/u")
    for each in (server, *cluster.living):
        with pytest.raises(Unavailable, match=r"redis\+cluster://"):
            await publish_once(each.url, prefix=keys.prefix, retries=0)
        with (
            Publisher.from_url(each.url, prefix=keys.prefix, retries=0) as publisher,
            pytest.raises(Unavailable, match=r"redis\+cluster://"),
        ):
            publisher.grant(SESSIONS[0], "u")
    assert not server.run("EXISTS", keys.log("notifications/u"))


def test_a_database_is_refused(cluster: RedisCluster):
    with pytest.raises(InvalidURL, match="one database"):
        Publisher.from_url(cluster.url + "/1")


# -- rights ----------------------------------------------------------------------------------


def test_a_user_with_the_documented_rights_can_use_every_method(
    cluster: RedisCluster, prefix: str, keys: Keys
):
    rules = rights.of_a_publisher(keys)
    for each in cluster.living:
        each.run("ACL", "SETUSER", prefix, "on", ">secret", *rules)
    url = cluster.url_of(cluster.living, f"{prefix}:secret@")
    with Publisher.from_url(url, prefix=prefix) as publisher:
        assert not failures(publisher.publish_many([(each, 1) for each in SESSIONS]))
        publisher.publish(SESSIONS[0], 1, min_replicas=1, idempotency_key="k")
        publisher.grant(SESSIONS[0], "u")
        publisher.revoke(SESSIONS[0], "u")
        publisher.connections("u")
        publisher.ping()
        assert datas(publisher, SESSIONS[0]) == [1, 1]


def test_a_right_that_one_primary_does_not_give_is_named_before_anything_is_written_there(
    cluster: RedisCluster, prefix: str, keys: Keys
):
    for each in cluster.living:
        each.run("ACL", "SETUSER", prefix, "on", ">secret", *rights.of_a_publisher(keys))
    strict = owner(cluster, keys, SESSIONS[0])
    strict.run("ACL", "SETUSER", prefix, "-spublish")
    url = cluster.url_of(cluster.living, f"{prefix}:secret@")
    with Publisher.from_url(url, prefix=prefix) as publisher:
        outcomes = publisher.publish_many([(channel, 1) for channel in SESSIONS])
    for channel, outcome in zip(SESSIONS, outcomes, strict=True):
        if owner(cluster, keys, channel) is strict:
            assert isinstance(outcome, Rejected)
            assert "+spublish" in outcome.reason
        else:
            assert isinstance(outcome, Published)
    assert not strict.run("EXISTS", keys.log(SESSIONS[0]))


# -- slots that move -------------------------------------------------------------------------


class Stream:
    """Publishes numbers in a thread until it is stopped; ``outcomes`` are those of each."""

    def __init__(self, publisher: Publisher, channels: list[str], size: int) -> None:
        self._publisher = publisher
        self._channels = channels
        self._size = size
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.outcomes: list[Published | PublisherError] = []
        self.rounds = 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            first = self.rounds * self._size
            numbers = range(first, first + self._size)
            messages = [
                Outgoing(channel, number, retention=KEPT)
                for number in numbers
                for channel in self._channels
            ]
            self.outcomes += self._publisher.publish_many(messages)
            self.rounds += 1

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: self.rounds > 1)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        """All were published, each once and in order."""
        assert not failures(self.outcomes)
        expected = list(range(self.rounds * self._size))
        for channel in self._channels:
            found = datas(self._publisher, channel)
            assert found == expected


def test_slots_that_move_back_and_forth_lose_and_double_nothing(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    channels = SESSIONS[:4]
    moving = slot_of(keys.log(channels[0]))
    with Stream(publisher, channels, 5) as stream:
        for _ in range(3):
            for target in [each for each in cluster.primaries if each.leads]:
                if target is not cluster.owner(moving):
                    cluster.move_slot(moving, target)
                before = stream.rounds
                wait_until(lambda before=before: stream.rounds > before + 1)
    stream.check()


@pytest.mark.thorough("cluster")
def test_while_a_slot_is_on_its_way_the_others_go_on(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    moved, *others = SESSIONS[:10]
    publisher.publish(moved, 0)
    slot = slot_of(keys.log(moved))
    target = next(each for each in cluster.primaries if each is not cluster.owner(slot))
    source = cluster.begin_move(slot, target)
    messages = [(channel, number) for number in range(1, 200) for channel in (moved, *others)]
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.extend(publisher.publish_many(messages)))
    thread.start()
    wait_until(lambda: all(len(datas(publisher, each)) == 199 for each in others))
    # A call that finds some of its keys here and some there is told to try again.
    assert thread.is_alive()
    cluster.move_keys(slot, source, target)
    cluster.end_move(slot, source, target)
    thread.join()
    assert not failures(outcomes)
    assert datas(publisher, moved) == list(range(200))


def test_a_slot_that_is_on_its_way_takes_grants_and_no_logged_message_until_it_has_arrived(
    cluster: RedisCluster, prefix: str, keys: Keys
):
    """Each publish names a key that is not there yet, and nearly each page of a log one that never was."""
    channel = SESSIONS[0]
    slot = slot_of(keys.log(channel))
    target = next(each for each in cluster.primaries if each is not cluster.owner(slot))
    with Publisher.from_url(cluster.url, prefix=prefix, give_up_after=0.1) as publisher:
        publisher.publish(channel, 1)
        publisher.grant(channel, "u")
        source = cluster.begin_move(slot, target)
        for keys_are_moved in (False, True):
            if keys_are_moved:
                cluster.move_keys(slot, source, target)
            for call in (
                lambda: publisher.publish(channel, 2),
                lambda: publisher.publish(channel, 2, idempotency_key="k"),
                lambda: publisher.history(channel),
            ):
                with pytest.raises(Unavailable, match="TRYAGAIN") as caught:
                    call()
                assert not caught.value.maybe_sent
            publisher.grant(channel, "u")
        cluster.end_move(slot, source, target)
        publisher.publish(channel, 3)
        assert datas(publisher, channel) == [1, 3]
        assert publisher.revoke(channel, "u")


async def test_an_awaited_publish_follows_a_slot(cluster: RedisCluster, prefix: str, keys: Keys):
    async with AsyncPublisher.from_url(cluster.url, prefix=prefix) as publisher:
        await publisher.publish(SESSIONS[0], 1)
        slot = slot_of(keys.log(SESSIONS[0]))
        target = next(each for each in cluster.primaries if each is not cluster.owner(slot))
        await asyncio.to_thread(cluster.move_slot, slot, target)
        await asyncio.gather(*(publisher.publish(SESSIONS[0], number) for number in range(2, 5)))
        assert [each.data for each in await publisher.history(SESSIONS[0])] == [1, 2, 3, 4]


# -- primaries that fail ---------------------------------------------------------------------


@pytest.mark.thorough("cluster")
def test_a_planned_failover_loses_and_doubles_nothing(
    cluster: RedisCluster, publisher: Publisher, keys: Keys
):
    channels = SESSIONS[:4]
    with Stream(publisher, channels, 5) as stream:
        cluster.fail_over(cluster.replica_of(owner(cluster, keys, channels[0])))
        before = stream.rounds
        wait_until(lambda: stream.rounds > before + 1)
    stream.check()


def test_when_a_primary_is_killed_its_replica_is_found(
    own_cluster: RedisCluster, prefix: str, keys: Keys
):
    with (
        Publisher.from_url(own_cluster.url, prefix=prefix) as publisher,
        Stream(publisher, SESSIONS[:4], 5) as stream,
    ):
        owner(own_cluster, keys, SESSIONS[0]).kill()
        wait_until(own_cluster._is_settled)
        before = stream.rounds
        wait_until(lambda: stream.rounds > before + 1)
    assert not failures(stream.outcomes)
    with Publisher.from_url(own_cluster.url, prefix=prefix) as publisher:
        for channel in SESSIONS[:4]:
            found = datas(publisher, channel)
            # Replication is asynchronous: what Redis had acknowledged and not sent on may be gone.
            assert found == sorted(set(found))


@pytest.mark.thorough("cluster")
async def test_while_a_shard_is_down_the_others_messages_go_through(
    own_cluster: RedisCluster, prefix: str, keys: Keys
):
    down = owner(own_cluster, keys, SESSIONS[0])
    if owner(own_cluster, keys, SESSIONS[0]) is own_cluster.owner(slot_of(keys.namespaces)):
        down = next(each for each in own_cluster.primaries if each is not down)
    silent = [each for each in SESSIONS if owner(own_cluster, keys, each) is down]
    alive = [each for each in SESSIONS if each not in silent]
    async with AsyncPublisher.from_url(
        own_cluster.url, prefix=prefix, give_up_after=1.0, timeout=2.0
    ) as publisher:
        await asyncio.gather(*(publisher.publish(channel, 1) for channel in SESSIONS))
        replica = own_cluster.replica_of(down)
        await asyncio.to_thread(replica.kill)
        down.freeze()
        try:
            waiting = [asyncio.create_task(publisher.publish(each, 2)) for each in silent]
            began = time.monotonic()
            await asyncio.gather(*(publisher.publish(channel, 2) for channel in alive))
            assert time.monotonic() - began < 1.5
            many = await publisher.publish_many(
                [(channel, number) for number in range(3, 60) for channel in SESSIONS]
            )
            for each in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(each, Unavailable)
        finally:
            down.thaw()
        for (channel, _), outcome in zip(
            [(channel, n) for n in range(3, 60) for channel in SESSIONS], many, strict=True
        ):
            assert isinstance(outcome, Unavailable if channel in silent else Published)
        for channel in alive:
            assert [each.data for each in await publisher.history(channel)] == list(range(1, 60))
