"""Messages that are published at their moment while a primary fails over, and by nodes whose clocks are wrong: once, none too early, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from publisher import AsyncPublisher, Scheduled
from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.support.nodes import running_node
from tests.support.processes import gateway_process
from tests.support.redis_cluster import RedisCluster
from tests.support.sentinel_servers import sentinel_servers
from tests.support.waiting import until

COUNT = 30
FIRST_SECONDS = 1.5
SPREAD_SECONDS = 5.0
LATE_SECONDS = 1.0
TAKEN_OVER_SECONDS = 4.0
"""As docs/publisher.md has them ("Publishing later")."""
HANDED_OVER_SECONDS = 1.8
"""A second, and the machine is busy. With a lease that is not given up it is over two."""
EARLY_SECONDS = 0.005
"""``at`` is in milliseconds."""
CLOCK_AHEAD = """\
import os, time
real, ahead = time.time, float(os.environ["CLOCK_AHEAD"])
time.time = lambda: real() + ahead
"""


class Plans:
    """Messages that are due one after the other, of which every third is cancelled."""

    def __init__(
        self, publisher: AsyncPublisher, channel: str, seconds: float = SPREAD_SECONDS
    ) -> None:
        self._publisher = publisher
        self._seconds = seconds
        self._channel = channel
        self._planned: dict[int, Scheduled] = {}

    async def make(self) -> None:
        """Schedule all, and cancel some."""
        begin = time.time() + FIRST_SECONDS
        for number in range(COUNT):
            at = begin + number * self._seconds / COUNT
            self._planned[number] = await self._publisher.publish(self._channel, number, at=at)
        for number in range(0, COUNT, 3):
            assert await self._publisher.cancel(self._planned.pop(number))

    async def some_are_published(self) -> None:
        """Return when a few are."""

        async def some() -> bool:
            return len(await self._publisher.history(self._channel)) > 3

        await until(some)

    async def judge(self, over: float = 0.0, late: float = LATE_SECONDS) -> None:
        """All were published once, and those in time that were due when trouble was ``over`` (seconds since 1970), or before it began.

        In time is at most so many seconds ``late``.
        """

        async def all_are_there() -> bool:
            return len(await self._publisher.history(self._channel)) >= len(self._planned)

        await until(all_are_there, within=20.0)
        entries = await self._publisher.history(self._channel)
        assert sorted(each.data for each in entries) == sorted(self._planned)
        for each in entries:
            at, published_at = self._planned[each.data].at, each.id / 1_000_000
            assert published_at >= at - EARLY_SECONDS, each
            assert published_at <= max(at + late, over), each


@contextlib.asynccontextmanager
async def planned(
    url: str, prefix: str, channel: str, trouble: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Two nodes, a replica that has all that is planned, and trouble when some messages are published; then they are judged."""
    async with (
        running_node(url, prefix) as first,
        running_node(url, prefix) as second,
        AsyncPublisher.from_url(url, prefix=prefix, min_replicas=1) as publisher,
    ):
        plans = Plans(publisher, channel)
        await plans.make()
        await plans.some_are_published()
        await trouble()
        for node in (first, second):
            await until(node.gateway.ready)
        over = time.time() + TAKEN_OVER_SECONDS
        yield
        await plans.judge(over)


@pytest.mark.parametrize("way", ["killed", pytest.param("as planned", marks=pytest.mark.long)])
async def test_a_failover_by_sentinel_publishes_each_once(
    tmp_path: Path, prefix: str, way: str
) -> None:
    async with sentinel_servers(tmp_path) as servers:

        async def fail_over() -> None:
            if way == "killed":
                servers.servers[0].kill()
            else:
                await servers.fail_over()
            await servers.promoted()

        async with planned(servers.url, prefix, "notifications/u", fail_over):
            pass


async def test_a_failover_of_the_shard_with_what_is_scheduled_publishes_each_once(
    cluster: RedisCluster, prefix: str
) -> None:
    """The log is in another shard: what the new primary does not know to be published is published again, and is a duplicate there."""
    keys = Keys(prefix)

    def owner(key: str) -> object:
        return cluster.owner(slot_of(key))

    primary = cluster.owner(slot_of(keys.scheduled))
    channel = next(
        name
        for number in range(100)
        if owner(keys.log(name := f"notifications/u{number}")) is not primary
    )

    async def kill() -> None:
        replica = await asyncio.to_thread(cluster.replica_of, primary)
        await asyncio.to_thread(primary.kill)
        await until(lambda: replica.leads, within=20.0)

    async with planned(cluster.url, prefix, channel, kill):
        pass


async def test_a_restart_as_planned_makes_nothing_late(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix) as publishing,
        gateway_process(redis_url, prefix) as other,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        plans = Plans(publisher, "notifications/u", seconds=3.0)
        await plans.make()
        await plans.some_are_published()
        # It was the first to come, and so the one that publishes.
        assert await publishing.terminate() == 0
        await plans.judge(late=HANDED_OVER_SECONDS)
        assert await other.is_ready()


async def test_nodes_whose_clocks_are_wrong_publish_in_time(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK_AHEAD)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    def wrong(seconds: int) -> dict[str, str]:
        return {"PYTHONPATH": path, "CLOCK_AHEAD": str(seconds)}

    async with (
        gateway_process(redis_url, prefix, environment=wrong(3_600)) as ahead,
        gateway_process(redis_url, prefix, environment=wrong(-3_600)) as behind,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        plans = Plans(publisher, "notifications/u")
        await plans.make()
        await plans.some_are_published()
        # It was the first to come, and so the one that publishes.
        await ahead.kill()
        over = time.time() + TAKEN_OVER_SECONDS
        await plans.judge(over)
        assert await behind.is_ready()
