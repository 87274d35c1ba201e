"""Waiting for replicas, with a real primary and a real replica."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from publisher import (
    AsyncPublisher,
    InvalidData,
    Namespace,
    NotReplicated,
    Outgoing,
    Published,
    Publisher,
    Unavailable,
)
from publisher.contract.keys import Keys
from tests.publisher.listening import listening
from tests.publisher.replicated import Replicated, replicated_redis
from tests.publisher.reply_cutter import ReplyCutter
from tests.publisher.test_publishing import CHANNEL, announce
from tests.support import topology
from tests.support.redis_server import redis_server
from tests.support.waiting import until

SHORT = 0.1
"""Seconds for a replica that will not answer."""

LONG = 10.0
"""Seconds for one that will."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with replicated_redis(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture
def hasty(pair: Replicated, prefix: str) -> Iterator[Publisher]:
    """Wants one replica to confirm, and does not wait long for it."""
    with Publisher.from_url(
        pair.url, prefix=prefix, min_replicas=1, replica_timeout=SHORT
    ) as publisher:
        yield publisher


@pytest.fixture
def patient(pair: Replicated, prefix: str) -> Iterator[Publisher]:
    """Wants one replica to confirm, and waits for it."""
    with Publisher.from_url(
        pair.url, prefix=prefix, min_replicas=1, replica_timeout=LONG
    ) as publisher:
        yield publisher


def test_a_confirmed_message_is_on_the_replica(pair: Replicated, patient: Publisher, keys: Keys):
    for n in range(50):
        published = patient.publish(CHANNEL, n)
        assert pair.replica.zcount(keys.log(CHANNEL), published.id, published.id) == 1


def test_nothing_is_waited_for_unless_asked(pair: Replicated, prefix: str):
    before = pair.waits()
    with Publisher.from_url(pair.url, prefix=prefix) as publisher, pair.replica_frozen():
        publisher.publish(CHANNEL, 1)
        assert pair.waits() == before


def test_an_unconfirmed_message_is_published_and_the_caller_told(
    pair: Replicated, hasty: Publisher, keys: Keys
):
    with listening(pair.primary, keys.live(CHANNEL)) as pubsub, pair.replica_frozen():
        with pytest.raises(NotReplicated) as caught:
            hasty.publish(CHANNEL, "out")
        live = pubsub.get_message(timeout=10)
    (entry,) = hasty.history(CHANNEL)
    error = caught.value
    assert (error.id, error.channel, error.duplicate) == (entry.id, CHANNEL, False)
    assert (error.replicas, error.min_replicas) == (0, 1)
    assert error.maybe_sent
    assert error.retryable
    assert live is not None
    assert live["data"].endswith(b'"out"')


async def test_the_asyncio_client_is_told_too(pair: Replicated, prefix: str):
    async with AsyncPublisher.from_url(
        pair.url, prefix=prefix, min_replicas=1, replica_timeout=SHORT
    ) as publisher:
        with pair.replica_frozen(), pytest.raises(NotReplicated) as caught:
            await publisher.publish(CHANNEL, 1)
        (entry,) = await publisher.history(CHANNEL)
        assert caught.value.id == entry.id


def test_a_retry_that_finds_its_message_still_proves_something(
    pair: Replicated, prefix: str, keys: Keys
):
    """Its connection has written nothing, so that a bare WAIT on it would return at once."""
    with (
        ReplyCutter(pair.url) as cutter,
        Publisher.from_url(
            cutter.url, prefix=prefix, min_replicas=1, replica_timeout=SHORT
        ) as publisher,
    ):
        publisher.publish("run-results/other", 0, min_replicas=0)
        with pair.replica_frozen():
            cutter.cut(b"EVAL")
            with pytest.raises(NotReplicated):
                publisher.publish(CHANNEL, "once")
            assert cutter.cut_replies == 1
        cutter.cut(b"EVAL")
        publisher.publish(CHANNEL, "twice", min_replicas=1)
    assert cutter.cut_replies == 2
    assert pair.replica.zcard(keys.log(CHANNEL)) == 2


def test_a_key_is_waited_for_again_and_published_once(
    pair: Replicated, hasty: Publisher, patient: Publisher
):
    with pair.replica_frozen():
        # On a connection of another publisher: the second call's own has written nothing.
        first = patient.publish(CHANNEL, 1, idempotency_key="k", min_replicas=0)
        with pytest.raises(NotReplicated) as caught:
            hasty.publish(CHANNEL, 1, idempotency_key="k")
        assert (caught.value.id, caught.value.duplicate) == (first.id, True)
    again = patient.publish(CHANNEL, 1, idempotency_key="k")
    assert again == Published(first.id, CHANNEL, duplicate=True)
    assert len(patient.history(CHANNEL)) == 1


def test_many_are_waited_for_once_and_each_is_judged_by_what_it_asks(
    pair: Replicated, hasty: Publisher
):
    hasty.publish("run-results/other", 0)
    before = pair.waits()
    messages = [Outgoing(CHANNEL, n, min_replicas=n % 3) for n in range(9)]
    outcomes = hasty.publish_many(messages)
    assert pair.waits() == before + 1
    kinds = [Published, Published, NotReplicated]
    assert [type(each) for each in outcomes] == kinds * 3
    assert [each.replicas for each in outcomes if isinstance(each, NotReplicated)] == [1, 1, 1]
    assert [entry.data for entry in hasty.history(CHANNEL)] == list(range(9))


def test_a_script_sent_again_is_waited_for_where_it_ran(pair: Replicated, hasty: Publisher):
    with pair.replica_frozen():
        pair.primary.script_flush()
        with pytest.raises(NotReplicated):
            hasty.publish(CHANNEL, 1)


def test_the_socket_timeout_may_be_shorter(pair: Replicated, prefix: str):
    with (
        Publisher.from_url(
            pair.url, prefix=prefix, timeout=0.3, min_replicas=1, replica_timeout=0.6
        ) as publisher,
        pair.replica_frozen(),
    ):
        for _ in range(2):
            with pytest.raises(NotReplicated):
                publisher.publish(CHANNEL, 1)
        assert len(publisher.history(CHANNEL)) == 2


async def test_the_asyncio_timeout_may_be_shorter(pair: Replicated, prefix: str):
    async with AsyncPublisher.from_url(
        pair.url, prefix=prefix, timeout=0.3, min_replicas=1, replica_timeout=0.6
    ) as publisher:
        with pair.replica_frozen(), pytest.raises(NotReplicated):
            await publisher.publish(CHANNEL, 1)


async def test_a_cancelled_publish_leaves_no_reply_for_the_next(
    pair: Replicated, prefix: str, keys: Keys
):
    async with AsyncPublisher.from_url(
        pair.url, prefix=prefix, min_replicas=1, replica_timeout=LONG
    ) as publisher:
        await publisher.publish("run-results/other", 0)
        with pair.replica_frozen():
            call = asyncio.create_task(publisher.publish(CHANNEL, "cancelled"))
            await until(lambda: pair.primary.info("clients")["blocked_clients"])
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        later = [await publisher.publish(CHANNEL, n) for n in range(3)]
        history = await publisher.history(CHANNEL)
    assert [entry.data for entry in history] == ["cancelled", 0, 1, 2]
    assert [entry.id for entry in history][1:] == [each.id for each in later]


def test_a_namespace_without_a_log_has_nothing_to_wait_for(
    pair: Replicated, hasty: Publisher, keys: Keys
):
    announce(pair.primary, keys, Namespace("ticker", retention=None))
    before = pair.waits()
    assert hasty.publish("ticker/x", 1).id == 0
    assert pair.waits() == before
    with pytest.raises(InvalidData, match="min_replicas needs a log"):
        hasty.publish("ticker/x", 1, min_replicas=1)


def test_without_the_permission_to_wait_the_caller_is_told_that_too(pair: Replicated, prefix: str):
    user = f"u{prefix}"
    pair.primary.acl_setuser(
        user,
        enabled=True,
        passwords=["+p"],
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-wait"],
    )
    url = pair.url.replace("://", f"://{user}:p@")
    with Publisher.from_url(url, prefix=prefix, min_replicas=1) as publisher:
        with pytest.raises(NotReplicated, match="wait") as caught:
            publisher.publish(CHANNEL, 1)
        assert not caught.value.retryable
        assert len(publisher.history(CHANNEL)) == 1


async def test_a_primary_that_is_demoted_while_replicas_are_waited_for_has_confirmed_nothing(
    tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
):
    outcomes: list[Published | NotReplicated] = []

    def publish() -> None:
        with Publisher.from_url(
            url, prefix=prefix, retries=100, min_replicas=1, replica_timeout=2.0
        ) as publisher:
            # The script is known from then on, and runs at the first try.
            publisher.publish("run-results/other", 0, min_replicas=0)
            try:
                outcomes.append(publisher.publish(CHANNEL, "once"))
            except NotReplicated as error:
                outcomes.append(error)

    with redis_server(tmp_path) as url, redis.Redis.from_url(url) as server:
        thread = threading.Thread(target=publish)
        thread.start()
        await until(lambda: server.info("clients")["blocked_clients"])
        server.replicaof("127.0.0.1", "1")
        await until(lambda: "became a replica" in caplog.text)
        server.replicaof("NO", "ONE")
        await until(lambda: not thread.is_alive())
        assert server.zcard(Keys(prefix).log(CHANNEL)) == 1
    # There is no replica, and the second try says so.
    assert [type(each) for each in outcomes] == [NotReplicated]


async def test_a_primary_without_the_replicas_it_needs_has_published_nothing(
    tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
):
    with redis_server(tmp_path, "--min-replicas-to-write", "1") as url:
        with (
            redis.Redis.from_url(url) as server,
            Publisher.from_url(url, prefix=prefix, retries=1) as publisher,
        ):
            with pytest.raises(Unavailable, match="NOREPLICAS") as caught:
                publisher.publish(CHANNEL, 1)
            assert type(caught.value) is Unavailable
            assert caught.value.retryable
            assert not caught.value.maybe_sent
            assert not topology.names(server, f"{prefix}*")
            assert caplog.text.count("NOREPLICAS") == 1
        caplog.clear()
        async with AsyncPublisher.from_url(url, prefix=prefix, retries=100) as async_publisher:
            call = asyncio.create_task(async_publisher.publish(CHANNEL, 1))
            await until(lambda: "NOREPLICAS" in caplog.text)
            with redis.Redis.from_url(url) as server:
                server.config_set("min-replicas-to-write", 0)
            assert (await call).id
            assert len(await async_publisher.history(CHANNEL)) == 1


@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
@pytest.mark.parametrize(
    "wrong",
    [
        {"min_replicas": -1},
        {"min_replicas": True},
        {"min_replicas": 1_001},
        {"replica_timeout": 0},
        {"replica_timeout": float("nan")},
        {"replica_timeout": 3_601},
        {"replica_timeout": "1"},
    ],
)
def test_impossible_values_are_refused_at_once(
    client: type[Publisher | AsyncPublisher], wrong: dict[str, float]
):
    with pytest.raises(InvalidData, match=next(iter(wrong))):
        client.from_url("redis://127.0.0.1:1", **wrong)


def test_an_impossible_value_of_one_message_is_its_own(hasty: Publisher):
    outcomes = hasty.publish_many(
        [Outgoing(CHANNEL, 1, min_replicas=-1), Outgoing(CHANNEL, 2, min_replicas=0)]
    )
    assert [type(each) for each in outcomes] == [InvalidData, Published]
