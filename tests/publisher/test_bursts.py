"""Bursts of ordinary size: nothing but a call's own timeout refuses anything."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import (
    AsyncPublisher,
    NotReplicated,
    Published,
    Publisher,
    PublisherError,
    Unavailable,
)
from publisher.contract.calls import Command
from publisher.transport import loops
from publisher.transport.pipeline import Pipeline
from tests.publisher.test_publishing import CHANNEL
from tests.support.redis_server import RedisServer
from tests.support.waiting import until


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that nobody else uses, to count in and to freeze."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def all_at_once(publisher: AsyncPublisher, count: int) -> list[Published | BaseException]:
    return await asyncio.gather(
        *(publisher.publish(CHANNEL, n) for n in range(count)), return_exceptions=True
    )


@pytest.mark.parametrize("count", [1_000, 3_000])
async def test_concurrent_publishes_all_succeed_over_one_connection_and_few_round_trips(
    alone: RedisServer, prefix: str, count: int
):
    with redis.Redis.from_url(alone.url) as server:
        async with AsyncPublisher.from_url(alone.url, prefix=prefix) as publisher:
            await publisher.publish("run-results/other", 0)
            before = server.info("stats")
            outcomes = await all_at_once(publisher, count)
            after = server.info("stats")
    assert [each for each in outcomes if not isinstance(each, Published)] == []
    assert after["total_connections_received"] == before["total_connections_received"]
    reads = after["total_reads_processed"] - before["total_reads_processed"]
    # Redis reads 16 KiB at a time, and a publish is about 400 bytes.
    assert reads <= count / 20


async def test_a_steady_stream_of_publishes_outlives_a_stall_of_redis(
    alone: RedisServer, prefix: str
):
    async with AsyncPublisher.from_url(alone.url, prefix=prefix) as publisher:
        await publisher.publish("run-results/other", 0)
        calls: list[asyncio.Task[Published]] = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        alone.freeze()
        thawed = False
        for n in range(500):
            calls.append(asyncio.create_task(publisher.publish(CHANNEL, n)))
            if not thawed and n == 250:
                alone.thaw()
                thawed = True
            # 250 a second.
            await asyncio.sleep(max(0.0, began + n / 250 - loop.time()))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [each for each in outcomes if not isinstance(each, Published)] == []


def test_as_many_threads_as_you_like_publish_at_once(publisher: Publisher):
    together = threading.Barrier(400)
    failed: list[PublisherError] = []

    def publish(n: int) -> None:
        together.wait()
        try:
            publisher.publish(f"run-results/{n}", n)
        except PublisherError as error:
            failed.append(error)

    run_in_threads(publish, 400)
    assert failed == []


@pytest.mark.parametrize("own_client", [False, True])
def test_where_connections_are_limited_calls_wait_for_one(
    alone: RedisServer, prefix: str, own_client: bool
):
    with contextlib.ExitStack() as stack:
        if own_client:
            client = stack.enter_context(
                redis.Redis.from_url(alone.url, socket_timeout=5, max_connections=3)
            )
            publisher = stack.enter_context(Publisher(client, prefix=prefix))
        else:
            url = f"{alone.url}?max_connections=3"
            publisher = stack.enter_context(Publisher.from_url(url, prefix=prefix))
        server = stack.enter_context(redis.Redis.from_url(alone.url))
        server.ping()
        before = server.info("stats")["total_connections_received"]
        failed: list[PublisherError] = []

        def publish(n: int) -> None:
            try:
                publisher.publish(f"run-results/{n}", n)
            except PublisherError as error:
                failed.append(error)

        run_in_threads(publish, 50)
        assert failed == []
        assert server.info("stats")["total_connections_received"] - before <= 3


@pytest.mark.one_server("its connections are counted")
def test_waiting_for_a_connection_counts_against_the_calls_own_timeout(redis_url: str, prefix: str):
    url = f"{redis_url}?max_connections=1"
    with Publisher.from_url(url, prefix=prefix, timeout=0.3, retries=0) as publisher:
        publisher.publish(CHANNEL, 1)
        connection = publisher._connections.take()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="all 1 connections were in use") as caught:
            publisher.publish(CHANNEL, 2)
        assert 0.3 <= time.monotonic() - began < 5
        assert caught.value.retryable
        assert not caught.value.maybe_sent
        publisher._connections.give_back(connection)
        # It was that call's end and nobody else's.
        publisher.publish(CHANNEL, 3)
        assert [entry.data for entry in publisher.history(CHANNEL)] == [1, 3]


async def test_the_end_of_one_calls_time_ends_that_call_only(alone: RedisServer, prefix: str):
    """A call that was asked for later has its whole time, over the same stalled Redis."""
    async with (
        AsyncPublisher.from_url(alone.url, prefix=prefix, timeout=0.5, retries=0) as publisher,
    ):
        await publisher.publish("run-results/other", 0)
        alone.freeze()
        early = asyncio.create_task(publisher.publish(CHANNEL, 1))
        await until(early.done)
        late = asyncio.create_task(publisher.publish(CHANNEL, 2))
        await asyncio.sleep(0)
        alone.thaw()
        assert isinstance(early.exception(), Unavailable)
        assert isinstance(await late, Published)


async def test_waiting_for_one_of_the_connections_that_wait_for_replicas_counts_as_well(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """Both together take no longer than one call may: the timeout, and what the replicas may take."""
    given: list[float] = []

    def round_trip(
        self: Pipeline, commands: Sequence[Command], extra_seconds: float = 0.0
    ) -> asyncio.Future[list[Any]]:
        given.append(extra_seconds)
        return real(self, commands, extra_seconds)

    real = Pipeline.round_trip
    monkeypatch.setattr(Pipeline, "round_trip", round_trip)
    monkeypatch.setattr(loops, "MAX_WAITING", 1)
    async with AsyncPublisher.from_url(redis_url, prefix=prefix, replica_timeout=0.2) as publisher:
        await publisher.publish("notifications/u", 0)
        given.clear()
        waits = [publisher.publish("notifications/u", n, min_replicas=9) for n in (1, 2)]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(each) for each in outcomes] == [NotReplicated, NotReplicated]
    # Sentinels are asked as well, and get no extra time.
    first, second = filter(None, given)
    # The second had to wait until Redis had waited for the first one's replicas.
    assert second <= first - 0.15


async def test_that_no_connection_is_free_says_nothing_of_the_primary(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(loops, "MAX_WAITING", 1)
    async with AsyncPublisher.from_url(
        redis_url, prefix=prefix, timeout=0.3, replica_timeout=2, retries=0, give_up_after=0.1
    ) as publisher:
        await publisher.publish("notifications/u", 0)
        waits = [publisher.publish("notifications/u", n, min_replicas=9) for n in (1, 2)]
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert "1 other calls are waiting for replicas" in str(outcomes[1])
    assert isinstance(outcomes[1], Unavailable)
    assert not outcomes[1].server
    assert "primary_lost" not in caplog.text


def run_in_threads(target: object, count: int) -> None:
    threads = [threading.Thread(target=target, args=(n,)) for n in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
