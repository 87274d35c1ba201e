"""Backends are told of unconfirmed messages while a part of Redis is away, refuses, or is slow: no channel holds up another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.backplane.servers import ONE, Servers
from gateway.backplane.unconfirmed import UnconfirmedWatch
from gateway.node.stats import Stats
from publisher import AsyncPublisher, Published
from publisher.contract import unconfirmed
from publisher.contract.calls import Call
from publisher.contract.events import UNCONFIRMED
from publisher.contract.keys import Keys
from publisher.contract.unconfirmed import Found, Telling
from tests.integration.conftest import StartNode
from tests.support.nodes import Node
from tests.support.topology import keys
from tests.support.waiting import PATIENCE, until
from tests.unit.fakes import FakeClock

CHANNEL = "notifications/u"
LOST = "notifications/lost"
AFTER = 0.5
"""Seconds in which a message is to be confirmed here."""
MANY = 300
"""Channels: several times as many as are taken at a time."""
SECONDS_OF_A_PAUSE = 3.0
"""So long all waited while one of them failed."""


class World:
    """A node that lets another one look, which is a watch of the test's own; its clock stands still."""

    def __init__(self, node: Node, publisher: AsyncPublisher, names: Keys) -> None:
        self.pipeline: Any = node.gateway.redis.pipeline
        self.publisher = publisher
        self.keys = names
        self.redis = publisher._client
        self.clock = FakeClock()
        self.stats = Stats()
        self.takes = 0

    async def call(self, call: Call) -> Any:
        """The way to Redis, on which it is counted how often the watch looks what is due."""
        self.takes += call.key == self.keys.awaited
        return await self.pipeline.call(call)

    @asynccontextmanager
    async def watching(
        self,
        servers: Servers = ONE,
        pipeline: Any = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> AsyncIterator[None]:
        watch = UnconfirmedWatch(
            pipeline or self,  # type: ignore[arg-type] - of which it uses this
            Telling(self.keys, "watch", 10_000),
            AFTER,
            self.stats,
            self.clock,
            wall_clock,
            servers,
        )
        task = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def publish_to_many(self) -> None:
        outcomes = await self.publisher.publish_many(
            [(f"notifications/{number}", number) for number in range(MANY)]
        )
        assert all(isinstance(each, Published) for each in outcomes)

    async def told(self) -> list[str]:
        """The channels of the events so far."""
        entries = await self.redis.xrange(self.keys.events)
        return [fields[b"channel"].decode() for _, fields in entries]

    async def tells_of(self, *channels: str) -> None:
        async def has_told() -> bool:
            return not set(channels) - set(await self.told())

        await until(has_told)

    async def has_told_many(self) -> bool:
        return len(set(await self.told()) - {LOST, CHANNEL}) == MANY


@pytest.fixture
async def world(start_node: StartNode, publisher: AsyncPublisher, prefix: str) -> World:
    names = keys(prefix)
    await publisher._client.set(names.looker, "watch")
    node = await start_node(events=UNCONFIRMED, unconfirmed_after_seconds=AFTER)
    return World(node, publisher, names)


async def test_channels_of_a_server_that_is_away_hold_up_no_others(world: World) -> None:
    lost = world.keys.log(LOST)

    def is_lost(key: str) -> bool:
        return key == lost

    await world.publisher.publish(CHANNEL, "x")
    async with world.watching(Servers(lambda key: str(is_lost(key)), is_lost)):
        await world.tells_of(CHANNEL)
        await world.publisher.publish(LOST, "x")
        await world.publish_to_many()
        # With a pause for each 64 it would take longer.
        await until(world.has_told_many, 4 * SECONDS_OF_A_PAUSE)
        assert LOST not in await world.told()


async def test_a_server_that_does_not_answer_holds_up_no_others(world: World) -> None:
    class Hanging:
        async def call(self, call: Call) -> Any:
            if call.key == world.keys.log(LOST):
                await asyncio.Event().wait()
            return await world.pipeline.call(call)

    await world.publisher.publish(LOST, "x")
    await world.publish_to_many()
    async with world.watching(pipeline=Hanging()):
        await until(world.has_told_many)
        await world.publisher.publish(CHANNEL, "y")
        await world.tells_of(CHANNEL)


async def test_when_a_server_is_back_what_was_confirmed_meanwhile_is_written_first(
    world: World,
) -> None:
    """Also where another server has taken its place."""
    lost = world.keys.log(LOST)
    away, names = {lost}, {lost: "old"}
    looks: list[str] = []

    class Noted:
        async def call(self, call: Call) -> Any:
            looks.append(str(call.key))
            return await world.call(call)

    def of(key: str) -> str:
        looks.append(f"of {key}")
        return names.get(key, "other")

    await world.publisher.publish(CHANNEL, "x")
    async with world.watching(Servers(of, away.__contains__), Noted()):
        await world.tells_of(CHANNEL)
        await world.publisher.publish(LOST, "x")
        await until(lambda: f"of {lost}" in looks)
        away.clear()
        names[lost] = "new"
        world.clock.now += 2.9
        looks.clear()
        await until(lambda: looks.count(f"of {lost}") >= 4)
        assert lost not in looks
        world.clock.now += 0.2
        await world.tells_of(LOST)


async def test_what_redis_refuses_is_looked_at_again_after_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.redis.set(world.keys.confirmed(LOST), "no sorted set")
    await world.publisher.publish(LOST, "x")
    with caplog.at_level(logging.WARNING, "gateway"):
        async with world.watching():
            await until(lambda: f"unconfirmed_refused channel={LOST}" in caplog.text)
            await world.redis.delete(world.keys.confirmed(LOST))
            world.clock.now += 59.0
            await world.publisher.publish(CHANNEL, "y")
            await world.tells_of(CHANNEL)
            before = world.takes
            await until(lambda: world.takes >= before + 2)
            assert LOST not in await world.told()
            world.clock.now += 2.0
            await world.tells_of(LOST)
    assert caplog.text.count("unconfirmed_refused") == 1
    assert world.stats.unconfirmed_refused == 1


async def test_a_name_that_is_none_holds_up_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else writes there but a later version, perhaps."""
    await world.redis.zadd(world.keys.awaited, {"no channel": 1})
    with caplog.at_level(logging.WARNING, "gateway"):
        async with world.watching():
            await until(lambda: "unconfirmed_refused channel=no channel" in caplog.text)
            await world.publisher.publish(CHANNEL, "x")
            await world.tells_of(CHANNEL)
    assert "loop_failed" not in caplog.text
    assert world.stats.unconfirmed_refused == 1


async def test_of_many_that_are_unfinished_none_waits_for_long(world: World) -> None:
    """As of a part of Redis that is away: each look takes others of them, whichever it begins with."""
    names, count, at_once = world.keys, 100, 40
    later = int(time.time() * 1_000_000) + 3_600_000_000
    await world.redis.zadd(names.looking, {f"notifications/{n}": later + n for n in range(count)})
    take = unconfirmed.take(names, "watch", 3, 1, at_once, AFTER)
    taken: Counter[str] = Counter()
    for _ in range(200):
        _, found = unconfirmed.parse_taken(await world.pipeline.call(take))
        assert len(found) == at_once
        taken.update(channel for channel, _ in found)
    assert min(taken[f"notifications/{n}"] for n in range(count)) > 40


async def test_a_search_that_redis_refuses_is_counted_and_goes_on_when_it_is_mended(
    world: World,
) -> None:
    await world.redis.set(world.keys.awaited, "no sorted set")
    async with world.watching():
        await until(lambda: world.stats.unconfirmed_refused >= 1)
        await world.redis.delete(world.keys.awaited)
        await world.publisher.publish(CHANNEL, "x")
        await world.tells_of(CHANNEL)


async def test_what_becomes_due_while_a_node_looks_is_looked_at_too(world: World) -> None:
    """Of a node that has stood still after its look, what it tells late is not told."""
    names = world.keys
    first = await world.publisher.publish(CHANNEL, "x")
    await asyncio.sleep(AFTER)
    take = unconfirmed.take(names, "watch", 3, 1, 10, AFTER)
    _, [(channel, of_first)] = unconfirmed.parse_taken(await world.pipeline.call(take))
    find = unconfirmed.find(names, channel, of_first, AFTER)
    found = Found.parse(await world.pipeline.call(find))
    assert [int(each) for each in found.ids] == [first.id]
    assert found.rest is None
    await world.publisher.publish(CHANNEL, "y")
    await asyncio.sleep(AFTER)
    await world.pipeline.call(take)
    telling = Telling(names, "watch", 10)
    assert await world.pipeline.call(telling.call(channel, of_first, found, AFTER, 1)) == 0
    async with world.watching():
        await world.tells_of(CHANNEL)

        async def done() -> bool:
            return not await world.redis.exists(names.awaited, names.looking)

        await until(done)
    assert await world.told() == [CHANNEL, CHANNEL]


async def test_an_event_has_the_time_of_the_nodes_clock(world: World) -> None:
    await world.publisher.publish(CHANNEL, "x")
    async with world.watching(wall_clock=lambda: 1_640_995_200.123):
        async with asyncio.timeout(PATIENCE):
            event = await anext(world.publisher.events("g", start="oldest"))
    assert event.timestamp == 1_640_995_200_123
