"""Backends are told of a message that its owner has not confirmed in time: once, whatever becomes of a node or of its way to Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest

from gateway.backplane.unconfirmed import UnconfirmedWatch
from gateway.node.stats import Stats
from publisher import AsyncPublisher, Event, Published
from publisher.contract import unconfirmed
from publisher.contract.channels import Namespace, Owner
from publisher.contract.events import CONFIRMED, UNCONFIRMED
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import PATIENCE, until

CHANNEL = "notifications/u"
AFTER = 0.5
"""Seconds in which a message is to be confirmed here."""
TOLD = {"events": UNCONFIRMED, "unconfirmed_after_seconds": AFTER}


@pytest.fixture
async def node(start_node: StartNode) -> Node:
    return await start_node(**TOLD)


@pytest.fixture
async def told(publisher: AsyncPublisher) -> AsyncIterator[AsyncIterator[Event]]:
    yield publisher.events("g", start="oldest")


async def following(told: AsyncIterator[Event]) -> Event:
    async with asyncio.timeout(PATIENCE):
        return await anext(told)


async def expect_only(told: AsyncIterator[Event], *messages: Published) -> None:
    """Each of these is told, in this order, and then that of a message published now: so nothing else was."""
    for each in messages:
        event = await following(told)
        assert (event.kind, event.channel, event.message) == (UNCONFIRMED, each.channel, each.id)


async def test_a_message_to_somebody_who_is_not_there_is_told_in_time(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    published = await publisher.publish(CHANNEL, "x")
    event = await following(told)
    assert event.user == "u"
    assert event.channel == CHANNEL
    assert event.message == published.id
    assert event.node == node.gateway.node_id
    # Not before its time, and soon after it.
    assert AFTER * 1000 <= event.timestamp - published.id // 1000 <= AFTER * 1000 + 2_000
    last = await publisher.publish(CHANNEL, "y")
    await expect_only(told, last)


async def test_what_is_confirmed_in_time_is_not_told(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = await publisher.publish(CHANNEL, "x", wait_confirmed=PATIENCE)
        assert first.confirmed == ("u",)
    second = await publisher.publish(CHANNEL, "y")
    await expect_only(told, second)


async def test_several_of_one_channel_are_told_one_by_one(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    count = 70  # more than are looked at in one step
    outcomes = await publisher.publish_many([(CHANNEL, number) for number in range(count)])
    published = [each for each in outcomes if isinstance(each, Published)]
    assert len(published) == count
    await expect_only(told, *published)
    await expect_only(told, await publisher.publish(CHANNEL, "last"))


async def test_what_was_taken_out_or_is_over_is_not_told(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    deleted = await publisher.publish(CHANNEL, "deleted")
    assert await publisher.delete(CHANNEL, deleted.id)
    await publisher.publish(CHANNEL, 1, collapse_key="unread")
    newer = await publisher.publish(CHANNEL, 2, collapse_key="unread")
    kept = await publisher.publish(CHANNEL, "for a minute", ttl=60)
    await expect_only(told, newer, kept)


async def test_what_is_over_when_its_time_to_be_confirmed_comes_is_not_told(
    start_node: StartNode, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    ttl, after = 1, 1.5
    await start_node(events=UNCONFIRMED, unconfirmed_after_seconds=after)
    over = await publisher.publish(CHANNEL, "for a second", ttl=ttl)
    # It is still in the log, so it is the look that leaves it out.
    assert await publisher._client.zcount(keys(prefix).log(CHANNEL), over.id, over.id)
    kept = await publisher.publish(CHANNEL, "for a minute", ttl=60)
    await expect_only(told, kept)
    assert await publisher._client.zcount(keys(prefix).log(CHANNEL), over.id, over.id)


async def test_only_owners_channels_with_a_log_are_looked_at(
    start_node: StartNode, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    await start_node(**TOLD, namespaces='{"pings": {"owner": "user", "retention": null}}')
    await publisher.publish("run-results/u", "x")
    await publisher.publish("pings/u", "x")
    assert not await publisher._client.exists(keys(prefix).awaited)
    await expect_only(told, await publisher.publish(CHANNEL, "y"))


async def test_nothing_is_noted_where_nobody_has_asked(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    await start_node(events=CONFIRMED)
    await publisher.publish(CHANNEL, "x")
    assert not await publisher._client.exists(keys(prefix).awaited)


async def test_a_scheduled_message_is_told(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    await publisher.publish(CHANNEL, "x", at=time.time() + 0.2)
    event = await following(told)
    (entry,) = await publisher.history(CHANNEL)
    assert event.message == entry.id


async def test_another_node_goes_on_where_one_has_ended(
    start_node: StartNode, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    first = await start_node(**TOLD)
    second = await start_node(**TOLD)
    client, names = publisher._client, keys(prefix)

    async def looker() -> str:
        return (await client.get(names.looker) or b"").decode()

    async def looks(node: Node) -> bool:
        return await looker() == node.gateway.node_id

    await until(lambda: _any(looks(first), looks(second)))
    ended, left = (first, second) if await looks(first) else (second, first)
    published = await publisher.publish(CHANNEL, "taken")
    # As if it had taken the channel and not got further.
    await client.zrem(names.awaited, CHANNEL)
    await client.zadd(names.looking, {CHANNEL: published.id})
    await ended.gateway.stop()
    assert await looker() != ended.gateway.node_id
    event = await following(told)
    assert event.message == published.id
    assert event.node == left.gateway.node_id
    await expect_only(told, await publisher.publish(CHANNEL, "next"))


async def test_what_was_left_unfinished_is_told_with_what_came_later(
    start_node: StartNode, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    first = await start_node(**TOLD)
    client, names = publisher._client, keys(prefix)
    await publisher.publish(CHANNEL, "noted")
    await first.gateway.stop()
    unfinished = await publisher.publish(CHANNEL, "unfinished")
    later = await publisher.publish(CHANNEL, "later")
    await client.zadd(names.looking, {CHANNEL: unfinished.id})
    await client.zadd(names.awaited, {CHANNEL: later.id})
    await asyncio.sleep(AFTER)
    await start_node(**TOLD)
    await expect_only(told, unfinished, later)


async def _any(*questions: asyncio.Future[bool]) -> bool:
    return any([await each for each in questions])  # type: ignore[misc]


async def test_two_nodes_that_both_look_tell_it_once(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    """One has stood still, and its turn was another's meanwhile."""
    watch = node.gateway.redis.unconfirmed_watch
    assert watch is not None
    telling = dataclasses.replace(watch._telling, node="late")
    late = UnconfirmedWatch(
        node.gateway.redis.pipeline, telling, AFTER, Stats(), time.monotonic, time.time
    )
    published = await publisher.publish(CHANNEL, "x")
    await following(told)
    client, names = publisher._client, keys(prefix)
    await client.zadd(names.looking, {CHANNEL: published.id})
    await asyncio.gather(*(late._look(CHANNEL, published.id) for _ in range(3)))
    await expect_only(told, await publisher.publish(CHANNEL, "y"))


async def test_a_note_that_comes_once_more_tells_nothing_again(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    """In a cluster a publisher whose note was not answered notes it again."""
    published = await publisher.publish(CHANNEL, "x")
    await following(told)
    await publisher._client.execute_command(
        *unconfirmed.note(keys(prefix), {CHANNEL: published.id}).arguments
    )
    await expect_only(told, await publisher.publish(CHANNEL, "y"))


async def test_a_retry_of_the_backend_tells_nothing_again(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event]
) -> None:
    published = await publisher.publish(CHANNEL, "x", idempotency_key="k")
    await expect_only(told, published)
    again = await publisher.publish(CHANNEL, "x", idempotency_key="k")
    assert again.duplicate
    await expect_only(told, await publisher.publish(CHANNEL, "y"))


async def test_it_goes_on_when_redis_is_back(
    publisher: AsyncPublisher, proxy: Proxy, prefix: str, told: AsyncIterator[Event]
) -> None:
    async with running_node(f"redis://127.0.0.1:{proxy.port}", prefix, **TOLD) as node:
        proxy.refuse()
        await until(lambda: not node.gateway.ready())
        published = await publisher.publish(CHANNEL, "x")
        await proxy.start()
        await expect_only(told, published)


async def test_a_user_who_is_forgotten_is_not_told_of(
    node: Node, publisher: AsyncPublisher, told: AsyncIterator[Event], prefix: str
) -> None:
    await publisher.publish(CHANNEL, "x")
    await publisher.forget("u")
    client, names = publisher._client, keys(prefix)
    for name in (names.awaited, names.looking, names.unconfirmed):
        assert await client.zscore(name, CHANNEL) is None
    await expect_only(told, await publisher.publish("notifications/other", "y"))


def test_a_namespace_cannot_choose_it_for_itself() -> None:
    announced = Namespace("n", Owner.USER, unconfirmed=True)
    assert Namespace.from_dict("n", announced.to_dict()) == announced
