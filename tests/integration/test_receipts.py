"""Receipts from outside: a client that never acknowledges anything has received a message."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import redis.asyncio

from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.sentinel_servers import sentinel_servers
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


async def test_a_device_that_goes_without_a_sign_is_none_that_has_it_and_the_next_one_is(
    node: Node, publisher: AsyncPublisher
) -> None:
    # It answers no ping.
    async with connected(node.url, make_token("u"), autoping=False) as deaf:
        await deaf.subscribe(CHANNEL)
        waiting = asyncio.create_task(publisher.publish(CHANNEL, 1, wait_confirmed=60))
        message = await deaf.receive()
        deaf.socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await until(lambda: not node.gateway.hub.connections)
    assert await publisher.receipts(CHANNEL, message["id"]) == []
    assert not waiting.done()
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert (await client.receive())["id"] == message["id"]
        assert (await waiting).confirmed == ("u",)


async def test_of_two_devices_one_is_enough(node: Node, publisher: AsyncPublisher) -> None:
    async with (
        connected(node.url, make_token("u"), autoping=False) as deaf,
        connected(node.url, make_token("u")) as client,
    ):
        await deaf.subscribe(CHANNEL)
        await client.subscribe(CHANNEL)
        sent = await publisher.publish(CHANNEL, 1, wait_confirmed=60)
        assert (await deaf.receive())["id"] == sent.id
        assert sent.confirmed == ("u",)
        assert [each.user for each in await publisher.receipts(CHANNEL, sent.id)] == ["u"]


async def test_a_user_whose_id_is_an_asterisk_is_a_user_like_others(
    node: Node, publisher: AsyncPublisher
) -> None:
    room = "run-results/s"
    await publisher.grant(room, "*")
    async with connected(node.url, make_token("*")) as client:
        for channel in ("notifications/*", room):
            await client.subscribe(channel)
            sent = await publisher.publish(channel, 1, wait_confirmed=60)
            await client.expect(id=sent.id)
            assert sent.confirmed == ("*",)
            assert [each.user for each in await publisher.receipts(channel, sent.id)] == ["*"]


async def test_a_user_who_is_forgotten_has_no_receipt_and_others_keep_theirs(
    node: Node, publisher: AsyncPublisher
) -> None:
    channel = "run-results/s"
    await publisher.grant(channel, "u")
    await publisher.grant(channel, "other")
    async with connected(node.url, make_token("u")) as one:
        await one.subscribe(channel)
        async with connected(node.url, make_token("other")) as other:
            await other.subscribe(channel)
            sent = await publisher.publish(channel, 1, wait_confirmed=60)

            async def both() -> bool:
                return len(await publisher.receipts(channel, sent.id)) == 2

            await until(both)
            await publisher.forget("u")
            assert [each.user for each in await publisher.receipts(channel, sent.id)] == ["other"]
    assert (await publisher.publish(CHANNEL, 1, wait_confirmed=0.2)).confirmed == ()


async def test_what_is_encrypted_is_confirmed_as_all_else_and_asking_needs_no_key(
    start_node: StartNode, publisher: AsyncPublisher, publisher_url: str, prefix: str
) -> None:
    keys = f"k:{base64.b64encode(32 * b'k').decode()}"
    rules = {"letters": {"owner": "user", "encrypted": True}}
    node = await start_node(namespaces=rules, encryption_keys=keys)
    async with (
        AsyncPublisher.from_url(publisher_url, prefix=prefix, encryption_keys=keys) as sealing,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe("letters/u")
        sent = await sealing.publish("letters/u", "a secret", wait_confirmed=60)
        assert await client.data(1) == ["a secret"]
    assert sent.confirmed == ("u",)
    assert [each.user for each in await publisher.receipts("letters/u", sent.id)] == ["u"]


async def test_a_wait_outlives_a_failover(tmp_path: Path, prefix: str) -> None:
    async with (
        sentinel_servers(tmp_path) as servers,
        running_node(servers.url, prefix) as node,
        AsyncPublisher.from_url(servers.url, prefix=prefix) as publisher,
    ):
        async with connected(node.url, make_token("u"), autoping=False) as deaf:
            await deaf.subscribe(CHANNEL)
            waiting = asyncio.create_task(publisher.publish(CHANNEL, 1, wait_confirmed=60))
            message = await deaf.receive()
        async with redis.asyncio.Redis.from_url(servers.servers[1].url) as replica:
            log = topology.keys(prefix).log(CHANNEL)
            # Else the failover might lose it.
            await until(lambda: replica.exists(log))
        servers.servers[0].kill()
        await servers.promoted()
        await until(node.gateway.ready)
        assert not waiting.done()
        async with connected(node.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            assert (await client.receive())["id"] == message["id"]
            assert (await waiting).confirmed == ("u",)
        assert [each.user for each in await publisher.receipts(CHANNEL, message["id"])] == ["u"]


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
