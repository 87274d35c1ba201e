"""One AsyncPublisher in several event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import redis

from publisher import AsyncPublisher
from tests.publisher.test_publishing import CHANNEL


@pytest.fixture
def publisher(redis_url: str, prefix: str) -> AsyncPublisher:
    return AsyncPublisher.from_url(redis_url, prefix=prefix)


@pytest.fixture
def clients(primary_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(primary_url) as client:
        yield client


def test_each_loop_is_served_and_its_connection_ends_with_it(
    publisher: AsyncPublisher, clients: redis.Redis
):
    clients.ping()
    before = clients.info("clients")["connected_clients"]
    for n in range(6):
        # As a web framework does that runs a loop for each request.
        assert asyncio.run(publisher.publish(CHANNEL, n)).id
    assert [entry.data for entry in asyncio.run(publisher.history(CHANNEL))] == list(range(6))
    assert clients.info("clients")["connected_clients"] <= before + 1
    assert len(publisher._loops._loops) <= 1


def test_loops_of_several_threads_are_served_at_once(publisher: AsyncPublisher):
    async def publish(thread: int) -> None:
        async with publisher:
            for n in range(20):
                published = await publisher.publish(CHANNEL, [thread, n])
                (entry,) = await publisher.history(CHANNEL, published.id - 1, 1)
                if entry.data != [thread, n]:
                    wrong.append(entry)

    wrong: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n: asyncio.run(publish(n)))  # type: ignore[misc]
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len({entry.id for entry in asyncio.run(publisher.history(CHANNEL))}) == 100


async def test_a_closed_publisher_connects_again_when_it_is_used(publisher: AsyncPublisher):
    await publisher.publish(CHANNEL, 1)
    await publisher.aclose()
    await publisher.publish(CHANNEL, 2)
    await publisher.aclose()
