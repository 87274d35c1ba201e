"""Messages that nodes publish at their moment: once, and in time, whatever becomes of a node or of its way to Redis."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.backplane.scheduled import _AT_ONCE, Scheduler
from gateway.node.stats import Stats
from publisher import AsyncPublisher
from publisher.contract.calls import Call
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import until

CHANNEL = "notifications/u"
MORE = _AT_ONCE + 20
"""More messages than are taken at a time."""


async def data(publisher: AsyncPublisher) -> list[object]:
    return [entry.data for entry in await publisher.history(CHANNEL)]


async def test_a_client_hears_a_message_at_its_moment(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        scheduled = await publisher.publish(CHANNEL, "then", at=time.time() + 0.3)
        cancelled = await publisher.publish(CHANNEL, "never", at=time.time() + 0.3)
        assert await publisher.cancel(cancelled)
        await publisher.publish(CHANNEL, "now")
        assert await client.data(1) == ["now"]
        message = await client.receive()
    assert message["data"] == "then"
    # By the clock of Redis, which gives the id.
    assert scheduled.at <= message["id"] / 1_000_000
    assert await data(publisher) == ["now", "then"]
    assert not await publisher.cancel(scheduled)


async def test_nothing_is_left_of_what_was_published(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await schedule_more(publisher, CHANNEL)
    await until(lambda: all_are_there(publisher, MORE))
    assert await data(publisher) == list(range(MORE))
    client, names = publisher._client, keys(prefix)

    async def gone() -> bool:
        return not await client.exists(names.scheduled_publishing)

    await until(gone)
    assert not await client.exists(names.scheduled)


async def schedule_more(publisher: AsyncPublisher, channel: str) -> None:
    """Schedule more than are taken at a time, due one behind the other."""
    first = time.time() - 2 * MORE
    numbers = range(MORE)
    await asyncio.gather(*(publisher.publish(channel, n, at=first + n) for n in numbers))


async def all_are_there(publisher: AsyncPublisher, count: int) -> bool:
    return len(await publisher.history(CHANNEL)) == count


async def test_another_node_goes_on_where_one_has_ended(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    first = await start_node()
    client, names = publisher._client, keys(prefix)

    async def taken() -> bool:
        return (await client.get(names.scheduled_taker) or b"").decode() == first.gateway.node_id

    await until(taken)
    second = await start_node()
    # It had taken one, and had published another without removing it.
    for text in ("taken", "published"):
        await publisher.publish(CHANNEL, text, at=time.time() + 3_600)
    (identifiers) = [each.decode() for each in await client.zrange(names.scheduled, 0, -1)]
    await first.gateway.stop()
    assert await client.get(names.scheduled_taker) != first.gateway.node_id.encode()
    for each in identifiers:
        await client.zadd(names.scheduled_publishing, {each: 1})
        await client.zrem(names.scheduled, each)
    await until(lambda: all_are_there(publisher, 2))

    async def by_the_other() -> bool:
        return (await client.get(names.scheduled_taker) or b"").decode() == second.gateway.node_id

    await until(by_the_other)
    assert sorted(await data(publisher)) == ["published", "taken"]  # type: ignore[type-var]


async def test_two_nodes_that_both_publish_leave_it_in_the_log_once(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    """One has stood still, and its turn was another's meanwhile."""
    pipeline, names = node.gateway.redis.pipeline, keys(prefix)
    scheduled = await publisher.publish(CHANNEL, "once", at=time.time() + 3_600)
    kept = await publisher._client.get(names.scheduled_message(scheduled.id))
    late = Scheduler(pipeline, names, "late", Stats(), time.monotonic)
    await asyncio.gather(*(late._publish(scheduled.id, kept) for _ in range(3)))
    assert await data(publisher) == ["once"]


async def test_it_goes_on_when_redis_is_back(
    publisher: AsyncPublisher, proxy: Proxy, prefix: str
) -> None:
    async with running_node(f"redis://127.0.0.1:{proxy.port}", prefix) as node:
        proxy.refuse()
        await until(lambda: not node.gateway.ready())
        for number in range(3):
            await publisher.publish(CHANNEL, number, at=time.time() - 3 + number)
        await proxy.start()
        await until(lambda: all_are_there(publisher, 3))
    assert await data(publisher) == [0, 1, 2]


async def turn(scheduler: Scheduler) -> None:
    """Look once, and do what that has begun."""
    async with asyncio.TaskGroup() as scheduler._work._tasks:
        await scheduler._work._look_once()


class Failing:
    """The way to a real Redis on which a channel cannot be published in."""

    def __init__(self, pipeline: Calls, channel: str, error: Unavailable) -> None:
        self._pipeline = pipeline
        self._channel = channel.encode()
        self._error = error

    async def call(self, call: Call) -> Any:
        publishes = call.script is not None and call.script.name.startswith("publish")
        if publishes and any(self._channel in str(each).encode() for each in call.whole()):
            raise self._error.told(maybe_sent=False)
        return await self._pipeline.call(call)

    def begin(self, call: Call) -> asyncio.Future[Any]:
        return self._pipeline.begin(call)


async def test_a_part_of_redis_that_is_down_holds_up_only_its_own(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    names = keys(prefix)
    await publisher._client.set(names.scheduled_taker, "this")
    await schedule_more(publisher, "notifications/down")
    down = Failing(
        node.gateway.redis.pipeline, "notifications/down", Unavailable("down", maybe_sent=False)
    )
    scheduler = Scheduler(down, names, "this", Stats(), time.monotonic)  # type: ignore[arg-type]
    running = asyncio.create_task(scheduler.run())
    try:
        await publisher.publish(CHANNEL, "up", at=time.time() - 1)
        await until(lambda: all_are_there(publisher, 1))
        # Of those nothing is lost, and operators are told.
        await until(lambda: scheduler._stats.scheduled_late > 0.1)
        assert scheduler._stats.scheduled_messages >= MORE
        await until(lambda: left_are(publisher, names.scheduled_publishing, MORE))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Deaf(Failing):
    """The way to a real Redis on which the answer is lost to what removes a message."""

    async def call(self, call: Call) -> Any:
        reply = await self._pipeline.call(call)
        if call.script is not None and call.script.name == "finish_scheduled":
            raise self._error
        return reply


async def test_what_was_published_counts_no_more_although_the_answer_was_lost(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    names, stats, now = keys(prefix), Stats(), [0.0]
    await publisher._client.set(names.scheduled_taker, "this")
    await publisher.publish(CHANNEL, "one", at=time.time() - 1)
    deaf = Deaf(node.gateway.redis.pipeline, "", Unavailable("lost", maybe_sent=True))
    scheduler = Scheduler(deaf, names, "this", stats, lambda: now[0])  # type: ignore[arg-type]
    for late in (0.0, 5.0, 0.0):
        await turn(scheduler)
        assert stats.scheduled_late >= late
        now[0] += 5.0
    assert stats.scheduled_late == 0
    assert await data(publisher) == ["one"]


class Silent(Failing):
    """The way to a real Redis that can be silent as a whole; notes which messages it has read."""

    def __init__(self, pipeline: Calls) -> None:
        super().__init__(pipeline, "", Unavailable("no answer", maybe_sent=True))
        self.silent = False
        self.read: list[str] = []

    async def call(self, call: Call) -> Any:
        if self.silent:
            raise self._error
        return await self._pipeline.call(call)

    def begin(self, call: Call) -> asyncio.Future[Any]:
        self.read.append(str(call.key))
        return super().begin(call)


async def test_what_waits_becomes_late_while_redis_is_silent(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    names, stats, now = keys(prefix), Stats(), [0.0]
    await publisher._client.set(names.scheduled_taker, "this")
    waits = await publisher.publish(CHANNEL, "in a minute", at=time.time() + 60)
    way = Silent(node.gateway.redis.pipeline)
    scheduler = Scheduler(way, names, "this", stats, lambda: now[0])  # type: ignore[arg-type]
    await turn(scheduler)
    assert (stats.scheduled_messages, stats.scheduled_late) == (1, 0)
    way.silent = True
    now[0] = 50.0
    await turn(scheduler)
    assert stats.scheduled_late == 0
    now[0] = 100.0
    await turn(scheduler)
    assert 40 <= stats.scheduled_late <= 45
    way.silent = False
    assert await publisher.cancel(waits)
    await turn(scheduler)
    assert (stats.scheduled_messages, stats.scheduled_late) == (0, 0)


async def test_after_an_outage_what_was_left_is_as_late_as_before(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    names, stats, now = keys(prefix), Stats(), [0.0]
    await publisher._client.set(names.scheduled_taker, "this")
    scheduled = await publisher.publish(CHANNEL, "one", at=time.time() - 1)
    down = Failing(node.gateway.redis.pipeline, CHANNEL, Unavailable("down", maybe_sent=False))
    scheduler = Scheduler(down, names, "this", stats, lambda: now[0])  # type: ignore[arg-type]
    for late in (0.0, 20.0):
        now[0] = late
        await turn(scheduler)
        assert stats.scheduled_late >= late
        # Its time to be handed out again has come.
        await publisher._client.zadd(names.scheduled_publishing, {scheduled.id: 1})


async def test_what_is_under_way_is_not_read_again(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    names = keys(prefix)
    await publisher._client.set(names.scheduled_taker, "this")
    for number in range(2):
        at = time.time() + 3_600
        scheduled = await publisher.publish(CHANNEL, number, at=at)
        await publisher._client.zadd(names.scheduled_publishing, {scheduled.id: 1})
        await publisher._client.zrem(names.scheduled, scheduled.id)
    way = Silent(node.gateway.redis.pipeline)
    scheduler = Scheduler(way, names, "this", Stats(), time.monotonic)  # type: ignore[arg-type]
    scheduler._work._under_way.add(scheduled.id)
    await turn(scheduler)
    assert len(way.read) == 1
    assert names.scheduled_message(scheduled.id) not in way.read
    assert await data(publisher) == [0]


class Slow(Failing):
    """The way to a real Redis on which a publish waits until it ``goes_on``."""

    def __init__(self, pipeline: Calls) -> None:
        super().__init__(pipeline, "", Unavailable("never", maybe_sent=False))
        self.goes_on = asyncio.Event()

    async def call(self, call: Call) -> Any:
        if call.script is not None and call.script.name.startswith("publish"):
            await self.goes_on.wait()
        return await self._pipeline.call(call)


async def test_a_node_that_ends_first_publishes_what_it_has_taken(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "this")
    slow = Slow(node.gateway.redis.pipeline)
    scheduler = Scheduler(slow, names, "this", Stats(), time.monotonic)  # type: ignore[arg-type]
    scheduled = await publisher.publish(CHANNEL, "taken", at=time.time() - 1)
    running = asyncio.create_task(scheduler.run())
    await until(lambda: scheduled.id in scheduler._work)
    closing = asyncio.create_task(scheduler.close())
    await asyncio.sleep(0)
    assert await client.get(names.scheduled_taker) == b"this"
    slow.goes_on.set()
    await closing
    assert await data(publisher) == ["taken"]
    assert not await client.exists(names.scheduled_publishing)
    assert await client.get(names.scheduled_taker) != b"this"
    await running


async def test_a_node_that_ends_waits_no_longer_for_a_part_of_redis_that_is_silent(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "this")
    slow = Slow(node.gateway.redis.pipeline)
    scheduler = Scheduler(slow, names, "this", Stats(), time.monotonic)  # type: ignore[arg-type]
    scheduled = await publisher.publish(CHANNEL, "taken", at=time.time() - 1)
    running = asyncio.create_task(scheduler.run())
    try:
        await until(lambda: scheduled.id in scheduler._work)
        await scheduler.close()
        # The node has taken over, and what was left.
        await until(lambda: all_are_there(publisher, 1))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_lease_that_another_node_has_is_not_given_up(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    pipeline = node.gateway.redis.pipeline
    await client.set(names.scheduled_taker, "another", px=60_000)
    await Scheduler(pipeline, names, "this", Stats(), time.monotonic).close()
    assert await client.get(names.scheduled_taker) == b"another"


async def test_the_next_look_is_when_what_was_left_unfinished_is_handed_out_again(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names, pipeline = publisher._client, keys(prefix), node.gateway.redis.pipeline
    scheduler = Scheduler(pipeline, names, "this", Stats(), time.monotonic)
    await client.set(names.scheduled_taker, "this")
    seconds, rest = await client.time()
    await client.zadd(names.scheduled_publishing, {"0" * 32: seconds * 1000 + rest // 1000 + 400})
    pause, *_ = await pipeline.call(scheduler.look)
    assert 0 < pause <= 400


async def test_what_is_under_way_is_bounded_by_bytes(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    count, size = 12, 1024 * 1024 - 1000
    names = keys(prefix)
    await publisher._client.set(names.scheduled_taker, "this")
    for number in range(count):
        channel = f"notifications/{number}"
        await publisher.publish(channel, size * "x", at=time.time() - count + number)
    slow = Slow(node.gateway.redis.pipeline)
    scheduler = Scheduler(slow, names, "this", Stats(), time.monotonic)  # type: ignore[arg-type]
    running = asyncio.create_task(scheduler.run())
    try:
        await until(lambda: scheduler._work.full)
        # Two looks may have begun before and behind the fourth.
        assert 4 <= await publisher._client.zcard(names.scheduled_publishing) <= 6
        slow.goes_on.set()
        # In their order: what is taken from the first is in the second.
        await until(lambda: left_are(publisher, names.scheduled, 0))
        await until(lambda: left_are(publisher, names.scheduled_publishing, 0))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    (last,) = await publisher.history(f"notifications/{count - 1}")
    assert last.data == size * "x"


async def test_a_search_that_redis_refuses_is_told_once_and_goes_on_when_it_is_mended(
    node: Node, publisher: AsyncPublisher, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "this")
    await client.set(names.scheduled, "no sorted set")
    stats = Stats()
    scheduler = Scheduler(node.gateway.redis.pipeline, names, "this", stats, time.monotonic)
    for _ in range(3):
        await turn(scheduler)
    assert stats.scheduled_refused == 3
    assert caplog.text.count("look_refused") == 1
    assert "WRONGTYPE" in caplog.text
    await client.delete(names.scheduled)
    await publisher.publish(CHANNEL, "mended", at=time.time() - 1)
    await turn(scheduler)
    assert await data(publisher) == ["mended"]


async def left_are(publisher: AsyncPublisher, key: str, count: int) -> bool:
    return bool(await publisher._client.zcard(key) == count)


@pytest.mark.parametrize("unreadable", [False, True])
async def test_what_cannot_be_published_is_kept_and_tried_a_minute_later_by_the_clock_of_redis(
    node: Node,
    publisher: AsyncPublisher,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    unreadable: bool,
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "other")  # so that the node leaves it alone
    scheduled = await publisher.publish(CHANNEL, "later", at=time.time() + 3_600)
    if unreadable:
        await client.set(names.scheduled_message(scheduled.id), b"9\nof a later version")
    await client.zadd(names.scheduled_publishing, {scheduled.id: 1})
    await client.zrem(names.scheduled, scheduled.id)
    seconds, _ = await client.time()
    # A node's own clock may be hours off.
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    refusing = Failing(node.gateway.redis.pipeline, CHANNEL, Rejected("NOPERM", maybe_sent=False))
    scheduler = Scheduler(refusing, names, "other", Stats(), time.monotonic)  # type: ignore[arg-type]
    kept = await client.get(names.scheduled_message(scheduled.id))
    await scheduler._publish(scheduled.id, kept)
    assert scheduler._stats.scheduled_refused == 1
    due = await client.zscore(names.scheduled, scheduled.id)
    assert seconds + 60 <= due / 1000 < seconds + 90
    assert await client.exists(names.scheduled_message(scheduled.id))
    assert not await client.exists(names.scheduled_publishing)


async def test_what_was_cancelled_while_it_was_taken_is_done_with(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "other")
    await client.zadd(names.scheduled_publishing, {"a" * 32: 1})
    scheduler = Scheduler(node.gateway.redis.pipeline, names, "other", Stats(), time.monotonic)
    await scheduler._publish("a" * 32, None)
    assert not await client.exists(names.scheduled_publishing)


async def test_who_schedules_again_while_it_is_removed_finds_all_of_it_or_nothing(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    await client.set(names.scheduled_taker, "other")

    class Between:
        """Schedules it once more behind each call to Redis."""

        async def call(self, call: Call) -> Any:
            reply = await node.gateway.redis.pipeline.call(call)
            await schedule()
            return reply

    async def schedule() -> str:
        at = time.time() + 3_600
        return (await publisher.publish(CHANNEL, 1, at=at, idempotency_key="k")).id

    identifier = await schedule()
    await client.zadd(names.scheduled_publishing, {identifier: 1})
    await client.zrem(names.scheduled, identifier)
    kept = await client.get(names.scheduled_message(identifier))
    scheduler = Scheduler(Between(), names, "other", Stats(), time.monotonic)  # type: ignore[arg-type]
    await scheduler._publish(identifier, kept)
    waits = await client.zscore(names.scheduled, identifier) is not None
    assert waits == bool(await client.exists(names.scheduled_message(identifier)))


async def test_many_that_are_due_at_one_moment_are_published_in_time(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    client, names = publisher._client, keys(prefix)
    at = time.time() + 2
    count = 1_500  # more than are under way together
    await asyncio.gather(*(publisher.publish(f"notifications/{n}", n, at=at) for n in range(count)))
    assert node.gateway.stats.scheduled_refused == 0

    async def gone() -> bool:
        return not await client.exists(names.scheduled, names.scheduled_publishing)

    await until(gone)
    history = await publisher.history(f"notifications/{count - 1}")
    assert [each.data for each in history] == [count - 1]
    await until(lambda: node.gateway.stats.scheduled_messages == 0)
