"""Messages that were taken out again are neither delivered nor a loss."""

from __future__ import annotations

from typing import Any

from publisher import AsyncPublisher, Published
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def received(node: Node, publisher: AsyncPublisher, **options: Any) -> Published:
    """A message that the user has received before they left."""
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first: Published = await publisher.publish(CHANNEL, 1, **options)
        assert (await client.receive())["id"] == first.id
    return first


async def test_who_comes_back_misses_a_deleted_message_and_is_told_of_no_loss(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await received(node, publisher)
    gone = [(await publisher.publish(CHANNEL, "gone")).id for _ in range(2)]
    kept = await publisher.publish(CHANNEL, 2)
    gone.append((await publisher.publish(CHANNEL, "gone")).id)
    for each in gone:
        assert await publisher.delete(CHANNEL, each)
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL, "since": first.id})
        assert await client.receive() == {
            "type": "subscribed",
            "channel": CHANNEL,
            "recovered": True,
            "position": first.id,
        }
        assert (await client.receive())["id"] == kept.id
        last = await publisher.publish(CHANNEL, 3)
        assert (await client.receive())["id"] == last.id
    assert node.gateway.stats.losses_reported == 0


async def test_one_who_listens_goes_on_behind_a_message_that_was_deleted(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = await publisher.publish(CHANNEL, 1)
        assert (await client.receive())["id"] == first.id
        assert await publisher.delete(CHANNEL, first.id)
        second = await publisher.publish(CHANNEL, 2)
        assert (await client.receive())["id"] == second.id
    assert node.gateway.stats.gaps == 0


async def test_who_comes_when_a_message_has_had_its_time_is_not_sent_it_and_told_of_no_loss(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await received(node, publisher, ttl=60)
    await publisher.publish(CHANNEL, "short", ttl=1)
    kept = await publisher.publish(CHANNEL, 2)
    await publisher.publish(CHANNEL, "short", ttl=1)

    async def over() -> bool:
        return [entry.data for entry in await publisher.history(CHANNEL)] == [1, 2]

    await until(over)
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL, "since": first.id})
        assert (await client.receive())["recovered"] is True
        assert (await client.receive())["id"] == kept.id
        last = await publisher.publish(CHANNEL, 3, ttl=60)
        assert (await client.receive())["id"] == last.id
    assert node.gateway.stats.losses_reported == 0


async def test_who_comes_back_finds_the_last_of_those_with_one_collapse_key(
    node: Node, publisher: AsyncPublisher
) -> None:
    first = await received(node, publisher, collapse_key="unread")
    for unread in (2, 3, 4):
        newest = await publisher.publish(CHANNEL, unread, collapse_key="unread")
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL, "since": first.id})
        assert (await client.receive())["recovered"] is True
        message = await client.receive()
        assert (message["id"], message["data"]) == (newest.id, 4)
    assert node.gateway.stats.losses_reported == 0
