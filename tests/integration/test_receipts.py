"""Receipts from outside: a client that never acknowledges anything has received a message."""

from __future__ import annotations

import asyncio

from publisher import AsyncPublisher
from tests.support import topology
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def test_a_publish_waits_until_a_plain_client_has_the_message(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        waiting = asyncio.create_task(publisher.publish(CHANNEL, 1, wait_confirmed=60))
        message = await client.receive()
        # Its pong goes out while it reads.
        reading = asyncio.create_task(client.receive())
        sent = await waiting
        reading.cancel()
    assert (sent.id, sent.confirmed) == (message["id"], ("u",))
    assert [each.user for each in await publisher.receipts(CHANNEL, sent.id)] == ["u"]


async def test_of_a_user_who_is_away_there_is_no_receipt(
    node: Node, publisher: AsyncPublisher
) -> None:
    sent = await publisher.publish(CHANNEL, 1, wait_confirmed=0.2)
    assert sent.confirmed == ()
    assert await publisher.receipts(CHANNEL, sent.id) == []


async def test_a_user_who_is_forgotten_hears_nothing_more(
    node: Node, publisher: AsyncPublisher
) -> None:
    channel = "run-results/s"
    await publisher.grant(channel, "u")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(channel)
        await publisher.forget("u")
        told = await client.receive()
        assert told["type"] in {"error", "unsubscribed"}
    await publisher.publish(channel, 1)
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": channel})
        assert (await client.receive())["code"] == "forbidden"


async def test_of_a_user_who_is_forgotten_no_position_is_left_that_a_node_writes_late(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    positions, client = node.gateway.redis.positions, publisher._client
    async with connected(node.url, make_token("u")) as receiving:
        await receiving.subscribe(CHANNEL)
        # Its pong goes out while it reads.
        reading = asyncio.create_task(receiving.receive())
        async with positions._one_at_a_time:
            sent = await publisher.publish(CHANNEL, 1)
            await until(lambda: positions.confirmed(CHANNEL, "u") == sent.id)
            forgetting = asyncio.create_task(publisher.forget("u"))
            await until(lambda: not node.gateway.hub.connections)
        await forgetting
        reading.cancel()
    assert not positions.confirmed(CHANNEL, "u")
    assert await client.zscore(topology.keys(prefix).confirmed(CHANNEL), "u") is None
