"""What a live channel has missed goes out first, in order, on the connections that are there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.backplane.hearing import Hearing
from gateway.backplane.pubsub import Subscriber
from gateway.node import catchup
from publisher import AsyncPublisher
from publisher.contract.message import LogPage
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.topology import ask_all
from tests.support.waiting import until

CHANNEL = "notifications/u"


def listening_to(node: Node, channel: str) -> Subscriber:
    """What hears the channel."""
    hearing = node.gateway.redis.hearing
    if isinstance(hearing, Hearing):
        return hearing.control
    return hearing.shards.of[hearing._map.known.owner(node.gateway.redis.keys.live(channel))]


async def cut_off(node: Node, publisher: AsyncPublisher) -> None:
    """Kill this node's pub/sub connection, and no other's."""
    subscriber = listening_to(node, CHANNEL)
    protocol = await until(lambda: subscriber._protocol)
    port = protocol.transport.get_extra_info("sockname")[1]
    await ask_all(publisher._client, "CLIENT", "KILL", "ADDR", f"127.0.0.1:{port}")
    await until(lambda: subscriber._protocol is not protocol)


async def miss(node: Node, publisher: AsyncPublisher, *data: int) -> None:
    """Publish what Redis seems to send and the node does not hear; the log has it."""
    handlers = listening_to(node, CHANNEL)._handlers
    name = node.gateway.redis.keys.live(CHANNEL).encode()
    lost: list[bytes] = []
    handler, handlers[name] = handlers[name], lost.append
    await publisher.publish_many([(CHANNEL, each) for each in data])
    await until(lambda: len(lost) == len(data))
    handlers[name] = handler


async def test_what_was_published_while_the_connection_was_lost_comes_without_reconnecting(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        await cut_off(node, publisher)
        await publisher.publish_many([(CHANNEL, number) for number in range(1, 4)])
        # No further message is needed to reveal the gap.
        assert await client.data(3) == [1, 2, 3]
        await until(node.gateway.ready)
        await publisher.publish(CHANNEL, 4)
        assert await client.data(1) == [4]
        await client.sync()


async def test_a_subscriber_who_has_heard_nothing_live_yet_misses_nothing_either(
    node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.publish(CHANNEL, 0)
    async with (
        connected(node.url, make_token("u")) as first,
        connected(node.url, make_token("u")) as second,
    ):
        await first.subscribe(CHANNEL, since=0)
        assert await first.data(1) == [0]
        await second.subscribe(CHANNEL, since=0)
        assert await second.data(1) == [0]
        await cut_off(node, publisher)
        await publisher.publish(CHANNEL, 1)
        assert await first.data(1) == await second.data(1) == [1]
        await first.sync()
        await second.sync()


async def test_nothing_is_lost_repeated_or_misordered_however_often_the_connection_is_cut(
    node: Node, publisher: AsyncPublisher
) -> None:
    total = 600

    async def publish() -> None:
        for number in range(total):
            await publisher.publish(CHANNEL, number)
            if number % 60 == 30:
                await cut_off(node, publisher)
            if number % 60 == 45:
                await until(node.gateway.ready)

    async def hear(client: Client) -> None:
        await client.subscribe(CHANNEL, since=0)
        assert await client.data(total) == list(range(total))
        await client.sync()

    async with (
        connected(node.url, make_token("u")) as first,
        connected(node.url, make_token("u"), compress=15) as second,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(hear(first))
        group.create_task(publish())
        await until(lambda: node.gateway.stats.messages_delivered > 100)
        group.create_task(hear(second))
    assert node.gateway.stats.redis_reconnects >= 5


async def test_a_message_that_names_one_unseen_waits_until_the_gap_is_read(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        await miss(node, publisher, 1, 2)
        await client.sync()
        await publisher.publish(CHANNEL, 3)
        assert await client.data(3) == [1, 2, 3]
        assert node.gateway.stats.gaps == 1
        await client.sync()


async def test_a_repair_that_fails_does_not_make_the_channel_mute(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        await miss(node, publisher, 1)
        with monkeypatch.context() as patch:
            patch.setattr(node.gateway.delivery.catchup._pages, "_log", None)
            await publisher.publish(CHANNEL, 2)
            await until(lambda: node.gateway.stats.gaps == 1)
            await client.sync()
        await publisher.publish(CHANNEL, 3)
        assert await client.data(3) == [1, 2, 3]
        await client.sync()


async def test_a_defect_in_bringing_a_client_back_ends_that_connection_with_1011_and_is_logged(
    node: Node,
    publisher: AsyncPublisher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        [connection] = node.gateway.hub.connections.values()
        subscription = connection.subscriptions[CHANNEL]
        monkeypatch.setattr(node.gateway.delivery.catchup._pages, "_log", None)
        node.gateway.delivery.catchup.pause(subscription)
        node.gateway.delivery.catchup.resume(subscription)
        assert await client.expect_close() == (1011, "internal_error")
    assert node.gateway.stats.connections_closed == {"1011": 1}
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage().startswith(f"subscription_failed channel={CHANNEL}")
    assert record.exc_info


async def test_what_is_no_longer_retained_is_told(
    start_node: StartNode, publisher: AsyncPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    rules = {"owner": "user", "retention": {"max_messages": 2, "max_age_seconds": 60}}
    node = await start_node(namespaces={"notifications": rules})
    await until(lambda: publisher.publish(CHANNEL, "learns the rules"))
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(1)
        await cut_off(node, publisher)
        await publisher.publish_many([(CHANNEL, number) for number in range(5)])
        await client.expect(type="error", code="messages_lost", channel=CHANNEL)
        assert await client.data(2) == [3, 4]
        await client.sync()
    told = [line for line in caplog.messages if line.startswith("messages_lost")]
    assert told == [f"messages_lost channel={CHANNEL} user=None"]


async def test_a_connection_that_is_silent_is_made_anew_and_the_node_is_not_ready_meanwhile(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(coalesce_seconds=0)  # nobody but this test pauses the reading
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]
        protocol = node.gateway.redis.subscriber._protocol
        assert protocol is not None
        # Open, healthy to look at, and nothing comes any more.
        protocol.transport.pause_reading()
        await publisher.publish(CHANNEL, 2)
        await until(lambda: not node.gateway.ready())
        assert (await node.get("/readyz"))[0] == 503
        assert await client.data(1) == [2]
        await until(node.gateway.ready)
        assert node.gateway.stats.probes_unheard == 1
        await client.sync()


async def forget(publisher: AsyncPublisher, prefix: str, channel: str = CHANNEL) -> None:
    """Take a channel out of Redis, as losing the data does."""
    await publisher._client.delete(f"{prefix}:log:{{{channel}}}", f"{prefix}:last:{{{channel}}}")


async def cut_off_and_checked(node: Node, publisher: AsyncPublisher) -> None:
    await cut_off(node, publisher)
    await until(node.gateway.ready)
    await until(lambda: not node.gateway.delivery.catchup._repairs)


async def test_a_loss_is_told_once_however_often_the_connection_is_lost_afterwards(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        await forget(publisher, prefix)
        for _ in range(3):
            await cut_off_and_checked(node, publisher)
        await client.expect(type="error", code="messages_lost", channel=CHANNEL)
        await client.sync()
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]
        await cut_off(node, publisher)
        await publisher.publish(CHANNEL, 2)
        assert await client.data(1) == [2]
        await client.sync()


async def test_those_who_have_read_ahead_of_the_live_channel_are_told_of_a_loss_once_too(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await publisher.publish(CHANNEL, 0)
    async with (
        connected(node.url, make_token("u")) as first,
        connected(node.url, make_token("u")) as second,
    ):
        for client in (first, second):
            await client.send({"type": "subscribe", "channel": CHANNEL, "since": 0})
        for client in (first, second):
            await client.expect(type="subscribed")
            assert await client.data(1) == [0]
        await forget(publisher, prefix)
        for _ in range(3):
            await cut_off_and_checked(node, publisher)
        await publisher.publish(CHANNEL, 1)
        for client in (first, second):
            await client.expect(type="error", code="messages_lost", channel=CHANNEL)
            assert await client.data(1) == [1]
            await client.sync()


async def test_a_loss_in_a_channel_that_was_empty_before_is_told(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    rules = {"owner": "user", "retention": {"max_messages": 1, "max_age_seconds": 60}}
    node = await start_node(namespaces={"notifications": rules})
    await until(lambda: publisher.publish("notifications/other", "learns the rules"))
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await cut_off(node, publisher)
        await publisher.publish_many([(CHANNEL, number) for number in range(3)])
        await client.expect(type="error", code="messages_lost", channel=CHANNEL)
        assert await client.data(1) == [2]
        await client.sync()


@pytest.mark.one_server("its one connection is looked at")
async def test_a_repair_under_way_when_the_connection_is_lost_reads_once_more(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await client.data(1) == [0]
        await miss(node, publisher, 1)
        history, answered = node.gateway.delivery.catchup._pages._log, asyncio.Event()
        read = history.read

        async def read_slowly(*where: Any) -> LogPage:
            page = await read(*where)
            await answered.wait()
            return page

        monkeypatch.setattr(history, "read", read_slowly)
        await publisher.publish(CHANNEL, 2)
        channel = node.gateway.hub.channels[CHANNEL]
        await until(lambda: channel.buffer is not None)
        await until(lambda: not node.gateway.redis.pipeline.under_way)
        await miss_all(node, publisher, 3)
        await until(node.gateway.ready)
        await publisher.publish(CHANNEL, 4)
        buffer = channel.buffer
        assert buffer is not None
        await until(lambda: [message.body for message in buffer._messages][-1:] == [b"4"])
        answered.set()
        assert await client.data(4) == [1, 2, 3, 4]
        await client.sync()


async def miss_all(node: Node, publisher: AsyncPublisher, data: int) -> None:
    """Publish while the node has no pub/sub connection at all."""
    subscriber = node.gateway.redis.subscriber
    published = asyncio.Event()
    connect = subscriber._connect

    @contextlib.asynccontextmanager
    async def wait_and_connect() -> AsyncIterator[asyncio.Transport]:
        """Another connection is opened only when the message has been published."""
        await published.wait()
        async with connect() as transport:
            yield transport

    subscriber._connect = wait_and_connect
    await cut_off(node, publisher)
    await publisher.publish(CHANNEL, data)
    subscriber._connect = connect
    published.set()


async def test_a_channel_that_cannot_be_read_holds_no_other_up(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catchup, "_CHECKS_AT_ONCE", 2)
    names = [f"run-results/{number}" for number in range(5)]
    async with connected(node.url, make_token("u", ["run-results/*"])) as client:
        for name in names:
            await client.subscribe(name)
        await publisher._client.set(f"{prefix}:log:{{{names[0]}}}", "no log")
        await cut_off(node, publisher)
        for number, name in enumerate(names[1:]):
            await publisher.publish(name, number)
        messages = [await client.receive() for _ in range(5)]
        assert sorted(each["data"] for each in messages if "data" in each) == [0, 1, 2, 3]
        assert [each["channel"] for each in messages if "reason" in each] == [names[0]]
