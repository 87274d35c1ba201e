"""Awaited publishes that are under way together share calls of the script, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from publisher import AsyncPublisher, InvalidData, Published, Rejected, Unavailable
from publisher.contract.keys import Keys
from publisher.groups import MESSAGES
from tests.publisher.reply_cutter import ReplyCutter
from tests.publisher.test_publishing import CHANNEL
from tests.support.redis_server import redis_server
from tests.support.waiting import until

OTHER = "notifications/u"


@contextmanager
def counted(folder: Path) -> Iterator[tuple[str, redis.Redis]]:
    """A server that nobody else uses."""
    with redis_server(folder) as url, redis.Redis.from_url(url) as admin:
        yield url, admin


def scripts_run(admin: redis.Redis) -> int:
    return int(admin.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


async def data(publisher: AsyncPublisher, channel: str = CHANNEL) -> list[object]:
    return [each.data for each in await publisher.history(channel)]


async def test_concurrent_publishes_share_calls_and_keep_their_order(tmp_path: Path, prefix: str):
    with counted(tmp_path) as (url, admin):
        async with AsyncPublisher.from_url(url, prefix=prefix) as publisher:
            await publisher.publish(CHANNEL, -1)
            admin.config_resetstat()
            count = 4 * MESSAGES
            outcomes = await asyncio.gather(*(publisher.publish(CHANNEL, n) for n in range(count)))
            assert scripts_run(admin) == count / MESSAGES
            assert [each.id for each in outcomes] == sorted({each.id for each in outcomes})
            assert await data(publisher) == [*range(-1, count)]


async def test_each_has_its_own_outcome(
    async_publisher: AsyncPublisher, server: redis.Redis, keys: Keys
):
    server.set(keys.log(OTHER), "not a log")
    outcomes = await asyncio.gather(
        async_publisher.publish(CHANNEL, 1),
        async_publisher.publish(OTHER, 2),
        async_publisher.publish(CHANNEL, object()),
        async_publisher.publish(CHANNEL, 3, idempotency_key="k"),
        async_publisher.notify("v", title="t", message="m"),
        return_exceptions=True,
    )
    kinds = [Published, Rejected, InvalidData, Published, Published]
    assert [type(each) for each in outcomes] == kinds
    assert await data(async_publisher) == [1, 3]


@pytest.mark.parametrize("cancelled", [0, 1, 4])
async def test_a_call_that_is_given_up_ends_none_of_the_others(
    async_publisher: AsyncPublisher, cancelled: int
):
    await async_publisher.publish(OTHER, 0)
    calls = [asyncio.create_task(async_publisher.publish(CHANNEL, n)) for n in range(5)]
    await asyncio.sleep(0)  # all have begun, and wait for each other
    calls[cancelled].cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes.pop(cancelled), asyncio.CancelledError)
    assert all(isinstance(each, Published) for each in outcomes)
    assert await data(async_publisher) == [n for n in range(5) if n != cancelled]


async def test_a_call_that_is_given_up_under_way_ends_none_of_the_others(
    cutter: ReplyCutter, prefix: str, async_publisher: AsyncPublisher
):
    async with AsyncPublisher.from_url(cutter.url, prefix=prefix, timeout=0.3) as hindered:
        await hindered.publish(OTHER, 0)
        cutter.hold(b"EVALSHA")
        calls = [asyncio.create_task(hindered.publish(CHANNEL, n)) for n in range(3)]
        await until(lambda: hindered._loops.running()._shared.under_way)
        calls[0].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        cutter.release()
        assert cutter.late.wait(10)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert all(isinstance(each, Published) for each in outcomes[1:])
    # The first is published by the retry of the others, or not at all; none is published twice.
    found = await data(async_publisher)
    assert [each for each in found if each != 0] == [1, 2]
    assert len(found) <= 3


async def test_a_lost_reply_to_all_publishes_none_of_them_twice(
    cutter: ReplyCutter, prefix: str, async_publisher: AsyncPublisher
):
    async with AsyncPublisher.from_url(cutter.url, prefix=prefix) as hindered:
        await hindered.publish(OTHER, 0)
        cutter.cut(b"EVALSHA")
        outcomes = await asyncio.gather(*(hindered.publish(CHANNEL, n) for n in range(10)))
    found = await async_publisher.history(CHANNEL)
    assert [each.id for each in found] == [each.id for each in outcomes]
    assert [each.data for each in found] == [*range(10)]


async def test_without_redis_each_of_them_fails(nobody: str):
    async with AsyncPublisher.from_url(nobody, retries=0) as publisher:
        outcomes = await asyncio.gather(
            *(publisher.publish(CHANNEL, n) for n in range(3)), return_exceptions=True
        )
    assert all(isinstance(each, Unavailable) and not each.maybe_sent for each in outcomes)
    assert len({id(each) for each in outcomes}) == 3


async def test_one_that_waits_for_replicas_makes_nobody_else_wait(tmp_path: Path, prefix: str):
    with counted(tmp_path) as (url, _):
        async with AsyncPublisher.from_url(url, prefix=prefix, replica_timeout=60) as publisher:
            waiting = asyncio.create_task(publisher.publish(CHANNEL, 1, min_replicas=1))
            outcomes = await asyncio.gather(*(publisher.publish(OTHER, n) for n in range(3)))
            assert all(isinstance(each, Published) for each in outcomes)
            assert not waiting.done()
            waiting.cancel()
