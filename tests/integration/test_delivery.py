"""The queue: what was missed comes first, in order, then live, without gap or repeat."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.core import reader
from gateway.node import recovery
from publisher import AsyncPublisher, Namespace, Owner, Retention
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.raw import CLOSE, PING, PONG, TEXT, raw_client
from tests.support.tokens import make_token
from tests.support.topology import names_like
from tests.support.waiting import until

CHANNEL = "notifications/u"


async def confirmed(publisher: AsyncPublisher, prefix: str, user: str, channel: str) -> int:
    """What Redis knows to have reached the user."""
    seen = await publisher._client.zscore(f"{prefix}:confirmed:{{{channel}}}", user)
    return int(seen or 0)


async def until_confirmed(publisher: AsyncPublisher, prefix: str, id: int) -> None:
    """Wait until Redis knows that the message has reached the user."""

    async def known() -> bool:
        return await confirmed(publisher, prefix, "u", CHANNEL) == id

    await until(known)


async def be_there_once(node: Node) -> None:
    """Somebody who has not been in the channel before cannot have lost anything."""
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
    await until(lambda: not node.gateway.hub.channels)
    await node.gateway.redis.positions.flush()


async def test_what_was_published_while_offline_comes_on_subscribing(
    node: Node, publisher: AsyncPublisher
) -> None:
    for number in range(3):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        assert await client.data(3) == [0, 1, 2]
        await publisher.publish(CHANNEL, 3)
        assert await client.data(1) == [3]


async def test_what_was_delivered_does_not_come_again(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "live")
        last = (await client.receive())["id"]
        await until_confirmed(publisher, prefix, last)
    await publisher.publish(CHANNEL, "missed")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(1) == ["missed"]
        await client.sync()


async def test_a_replay_counts_as_delivered_too(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    published = await publisher.publish(CHANNEL, 1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(1)
        await until_confirmed(publisher, prefix, published.id)


async def test_a_client_that_answers_no_ping_gets_it_again(
    node: Node, publisher: AsyncPublisher
) -> None:
    published = await publisher.publish(CHANNEL, "precious")
    subscribe = b'{"type":"subscribe","channel":"notifications/u"}'
    for _ in range(2):
        async with raw_client(node.url, make_token("u")) as client:
            client.send(TEXT, subscribe)
            await client.next(TEXT)
            await client.next(TEXT)
            assert str(published.id).encode() in (await client.next(TEXT)).payload
            question = await client.next(PING)
        await until(lambda: not node.gateway.hub.connections)
    async with raw_client(node.url, make_token("u")) as client:
        client.send(TEXT, subscribe)
        question = await client.next(PING)
        client.send(PONG, question.payload)
        client.send(TEXT, b'{"type":"heartbeat"}')
        await client.next(TEXT)
    async with connected(node.url, make_token("u")) as again:
        await again.subscribe(CHANNEL)
        await again.sync()


async def test_an_ack_confirms_what_a_pong_would(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    published = await publisher.publish(CHANNEL, 1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(1)
        await client.send({"type": "ack", "channel": CHANNEL, "id": published.id})
        await until_confirmed(publisher, prefix, published.id)


async def test_an_ack_moves_nothing_in_channels_that_are_not_the_clients(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "ack", "channel": "notifications/v", "id": 5})
        await client.send({"type": "ack", "channel": "nowhere/v", "id": 5})
        await client.sync()
    await node.gateway.redis.positions.flush()
    assert not await names_like(publisher._client, f"{prefix}:confirmed:*")


async def test_an_ack_of_what_is_yet_to_come_costs_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.send({"type": "ack", "channel": CHANNEL, "id": 2**53 - 1})
        await client.sync()
    await node.gateway.redis.positions.flush()
    await publisher.publish(CHANNEL, "later")
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        assert await client.data(1) == ["later"]


async def test_coming_back_on_the_same_connection_repeats_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        assert await client.data(1) == [1]
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await publisher.publish(CHANNEL, 2)
        await client.subscribe(CHANNEL)
        assert await client.data(1) == [2]
        await client.sync()


async def test_toggling_without_waiting_neither_repeats_nor_misorders(
    node: Node, publisher: AsyncPublisher
) -> None:
    """What a page does that mounts twice: subscribe, unsubscribe, subscribe, all at once."""
    total = 300
    toggle = [
        {"type": kind, "channel": CHANNEL} for kind in ("unsubscribe", "subscribe") for _ in "ab"
    ]
    toggle = [toggle[2], toggle[0], toggle[3], toggle[1]]
    async with connected(node.url, make_token("u")) as client:
        for number in range(total):
            await publisher.publish(CHANNEL, number)
            if number % 3 == 0:
                for message in toggle[: 1 + number % 4]:
                    await client.send(message)
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.send({"type": "subscribe", "channel": CHANNEL})
        heard: list[int] = []
        while not heard or heard[-1] != total - 1:
            message = await client.receive()
            if "data" in message:
                heard.append(message["data"])
        await client.sync()
    assert heard == list(range(total))


async def test_who_was_not_let_in_confirms_nothing_however_quick(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    async with (
        raw_client(node.url, make_token("v")) as hostile,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        published = await publisher.publish(CHANNEL, 1)
        await client.data(1)
        for channel in (b"nosuch/x", b"run-results/secret", b"notifications/u"):
            # In one segment: the ack is read before the subscribe has been judged.
            hostile.send(TEXT, b'{"type":"subscribe","channel":"%b"}' % channel)
            hostile.send(TEXT, b'{"type":"ack","channel":"%b","id":5}' % channel)
        await until_confirmed(publisher, prefix, published.id)
    await node.gateway.redis.positions.flush()
    keys = await names_like(publisher._client, f"{prefix}:confirmed:*")
    assert keys == [f"{prefix}:confirmed:{{{CHANNEL}}}".encode()]


async def test_who_is_closed_by_the_node_is_asked_first_and_the_answer_counts(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(confirm_interval_seconds=60)
    async with raw_client(node.url, make_token("u")) as client:
        client.send(TEXT, b'{"type":"subscribe","channel":"notifications/u"}')
        await until(lambda: node.gateway.hub.channels.get(CHANNEL))
        await until(lambda: node.gateway.hub.channels[CHANNEL].members)
        await publisher.publish(CHANNEL, "asked about at once")
        first = await client.next(PING)
        published = await publisher.publish(CHANNEL, "asked about in a minute")
        await until(lambda: node.gateway.stats.messages_delivered == 2)
        stopping = asyncio.create_task(node.gateway.stop())
        last = await client.next(PING)
        assert last.payload != first.payload
        goodbye = await client.frame()
        assert goodbye.opcode == CLOSE
        client.send(PONG, last.payload)
        client.send(CLOSE, goodbye.payload)
        await stopping
    assert await confirmed(publisher, prefix, "u", CHANNEL) == published.id


async def test_who_leaves_a_channel_is_asked_first_too(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node(confirm_interval_seconds=60)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        last = await publisher.publish(CHANNEL, 2)
        await client.data(2)
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await until_confirmed(publisher, prefix, last.id)


async def test_a_message_logged_where_no_log_is_kept_holds_up_no_confirmation(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """A publisher learns of new rules within a minute, and follows the old ones till then."""
    node = await start_node(namespaces={"calls": {"owner": "anyone", "retention": None}})
    old = {"calls": Namespace("calls", Owner.ANYONE, Retention(10, 60))}
    publisher._operations._preflight.namespaces = old
    publisher._operations._preflight._learnt_at = float("inf")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("calls/x")
        await publisher.publish("calls/x", 1)
        await client.data(1)
        positions = node.gateway.redis.positions
        await until(lambda: positions.confirmed("calls/x", "u"))
        await until(lambda: not positions.confirmed("calls/x", "u"))


async def test_what_the_node_knows_beyond_a_page_is_no_loss(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """Redis may know less of what has arrived than the node; a page read from there tells nothing."""
    node = await start_node(confirm_interval_seconds=60)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        for number in range(12):
            await publisher.publish(CHANNEL, [number, "x" * 60_000])
        await client.data(12)
        node.gateway.redis.positions.advance = lambda *_: None  # type: ignore[method-assign]
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await publisher.publish(CHANNEL, [12, ""])
        assert "recovered" not in await client.subscribe(CHANNEL)
        assert await client.data(1) == [[12, ""]]
    assert node.gateway.stats.losses_reported == 0


async def test_a_queue_larger_than_any_buffer_reaches_a_slow_client(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(high_water_bytes=600_000)
    for number in range(24):
        await publisher.publish(CHANNEL, [number, "x" * 250_000])
    async with raw_client(node.url, make_token("u")) as client:
        client.send(TEXT, b'{"type":"subscribe","channel":"notifications/u"}')
        heard = []
        while len(heard) < 24:
            frame = await client.frame()
            assert frame.opcode in (TEXT, PING)
            if b'"data":[' in frame.payload[:200]:
                heard.append(json.loads(frame.payload)["data"][0])
    assert heard == list(range(24))


async def test_an_entry_that_nobody_can_read_does_not_silence_a_channel(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await publisher.publish(CHANNEL, 1)
    await publisher._client.zadd(f"{prefix}:log:{{{CHANNEL}}}", {"junk": 5})
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(1) == [1]
        await publisher.publish(CHANNEL, 2)
        assert await client.data(1) == [2]


async def test_since_overrides_what_was_delivered(node: Node, publisher: AsyncPublisher) -> None:
    first = await publisher.publish(CHANNEL, 1)
    await publisher.publish(CHANNEL, 2)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(2)
        assert (await client.subscribe(CHANNEL, since=first.id))["recovered"] is True
        assert await client.data(1) == [2]
        assert (await client.subscribe(CHANNEL, since=0))["recovered"] is True
        assert await client.data(2) == [1, 2]
        await publisher.publish(CHANNEL, 3)
        assert await client.data(1) == [3]
        await client.sync()


async def test_what_retention_took_away_is_told(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(
        namespaces={
            "notifications": {
                "owner": "user",
                "retention": {"max_messages": 2, "max_age_seconds": 600},
            }
        }
    )
    await be_there_once(node)
    first = await until(lambda: publisher.publish(CHANNEL, 0))
    published = await publisher.publish_many([(CHANNEL, number) for number in range(1, 5)])
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL))["recovered"] is False
        assert await client.data(2) == [3, 4]
        assert (await client.subscribe(CHANNEL, since=first.id))["recovered"] is False
        assert await client.data(2) == [3, 4]
        assert (await client.subscribe(CHANNEL, since=published[1].id))["recovered"] is True
        assert await client.data(2) == [3, 4]


async def test_who_had_everything_is_told_of_no_loss_when_the_log_has_expired(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    published = await publisher.publish(CHANNEL, 1)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(1)
        await until_confirmed(publisher, prefix, published.id)
    await publisher._client.delete(f"{prefix}:log:{{{CHANNEL}}}")
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        assert (await client.subscribe(CHANNEL, since=published.id))["recovered"] is True
        await publisher.publish(CHANNEL, 2)
        assert await client.data(1) == [2]
        await client.sync()


async def test_who_missed_a_log_that_has_expired_is_told_once(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    await be_there_once(node)
    missed = await publisher.publish(CHANNEL, 1)
    await publisher._client.delete(f"{prefix}:log:{{{CHANNEL}}}")
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL))["recovered"] is False
        await until_confirmed(publisher, prefix, missed.id)
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)


async def test_long_queues_are_replayed_whole(node: Node, publisher: AsyncPublisher) -> None:
    await publisher.publish_many([(CHANNEL, number) for number in range(950)])
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        assert await client.data(950) == list(range(950))
        await client.sync()


@pytest.mark.parametrize("page", [1, 7, 100])
async def test_publishing_and_subscribing_may_interleave_as_they_like(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Clients come and go all the while; each hears every message once, in order."""
    monkeypatch.setattr(recovery, "PAGE", page)
    monkeypatch.setattr(reader, "MAX_BUFFERED", 3)
    total = 400

    async def publish() -> None:
        for number in range(total):
            await publisher.publish(CHANNEL, number)
            if number % 3 == 0:
                await asyncio.sleep(0)

    async def listen(start: int) -> None:
        async with connected(node.url, make_token("u")) as client:
            await until(lambda: node.gateway.stats.messages_received >= start)
            await client.subscribe(CHANNEL, since=0)
            assert await client.data(total) == list(range(total))
            await client.sync()

    async with asyncio.TaskGroup() as group, connected(node.url, make_token("u")) as first:
        await first.subscribe(CHANNEL)
        for start in (0, 50, 150, 300):
            group.create_task(listen(start))
        group.create_task(publish())
        assert await first.data(total) == list(range(total))


async def test_a_plain_client_that_comes_and_goes_misses_nothing(
    node: Node, publisher: AsyncPublisher
) -> None:
    total = 300
    heard: list[int] = []

    async def publish() -> None:
        for number in range(total):
            await publisher.publish(CHANNEL, number)

    publishing = asyncio.create_task(publish())
    async with asyncio.timeout(20):
        while len(set(heard)) < total:
            async with connected(node.url, make_token("u")) as client:
                await client.subscribe(CHANNEL)
                for _ in range(min(40, total - len(set(heard)))):
                    heard.append((await client.receive())["data"])
                await client.close()
                heard += [message["data"] for message in client.rest()]
    await publishing
    once = list(dict.fromkeys(heard))
    assert once == list(range(total))


async def test_two_connections_of_a_user_both_hear_live_messages(
    node: Node, publisher: AsyncPublisher
) -> None:
    async with (
        connected(node.url, make_token("u")) as phone,
        connected(node.url, make_token("u")) as laptop,
    ):
        await phone.subscribe(CHANNEL)
        await laptop.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        assert await phone.data(1) == await laptop.data(1) == [1]
