"""A loss is told when there was one, and never invented."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import pytest

from publisher import AsyncPublisher
from publisher.contract.message import LogPage
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import Client, connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
FEW = {"notifications": {"owner": "user", "retention": {"max_messages": 2, "max_age_seconds": 60}}}


def hold_pages(node: Node, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold pages of the log up once Redis has read them.

    Returns one event that tells that a page was read, and one that lets the pages go.
    """
    history = node.gateway.delivery.catchup._pages._log
    read, asked, answered = history.read, asyncio.Event(), asyncio.Event()

    async def read_slowly(*where: Any) -> LogPage:
        page = await read(*where)
        asked.set()
        await answered.wait()
        return page

    monkeypatch.setattr(history, "read", read_slowly)
    return asked, answered


async def has_confirmed(publisher: AsyncPublisher, prefix: str, id: int) -> bool:
    """Whether Redis knows that the user has everything up to ``id``."""
    seen = await publisher._client.zscore(f"{prefix}:confirmed:{{{CHANNEL}}}", "u")
    return seen is not None and int(seen) >= id


def told_of_losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each for each in caplog.messages if each.startswith(("messages_lost", "replay_incomplete"))
    ]


async def test_no_more_is_delivered_than_the_retention_says(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """The log holds more until a publish trims it."""
    rules = {"owner": "anyone", "retention": {"max_messages": 100, "max_age_seconds": 3_600}}
    node = await start_node(namespaces={"lessons": rules})
    now = int(time.time() * 1_000_000)
    ids = [now - 7_200_000_000, *range(now - 250, now)]
    chain = zip((0, *ids), ids, strict=False)
    entries = {f"{id_}:{prev}:n:{id_}": id_ for prev, id_ in chain}
    await publisher._client.zadd(f"{prefix}:log:{{lessons/1}}", entries)
    await publisher._client.set(f"{prefix}:last:{{lessons/1}}", ids[-1])
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("lessons/1")
        assert await client.data(100) == ids[-100:]
        assert (await client.subscribe("lessons/1", since=ids[0]))["recovered"] is False
        assert await client.data(100) == ids[-100:]
        assert (await client.subscribe("lessons/1", since=ids[-101]))["recovered"] is True
        assert await client.data(100) == ids[-100:]


async def test_what_another_tab_confirms_while_the_page_is_on_its_way_is_no_loss(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = node.gateway.redis.positions

    async def write_nothing() -> None:
        """What is confirmed stays noted on the node."""

    async with (
        connected(node.url, make_token("u")) as first,
        connected(node.url, make_token("u")) as second,
    ):
        await first.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 1)
        assert await first.data(1) == [1]
        await positions.flush()
        monkeypatch.setattr(positions, "flush", write_nothing)
        asked, answered = hold_pages(node, monkeypatch)
        await second.send({"type": "subscribe", "channel": CHANNEL})
        await asked.wait()
        published = await publisher.publish(CHANNEL, 2)
        assert await first.data(1) == [2]
        await until(lambda: positions.confirmed(CHANNEL, "u") == published.id)
        answered.set()
        assert "recovered" not in await second.expect(type="subscribed")
        await publisher.publish(CHANNEL, 3)
        # Whether the second tab gets what came while it was being let in is not the question here.
        while (await second.receive())["data"] != 3:
            pass
    assert node.gateway.stats.losses_reported == 0


async def test_in_a_reconnect_storm_of_several_tabs_a_user_nobody_is_told_of_a_loss(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    nodes = [await start_node() for _ in range(2)]
    users, tabs, rounds = [f"u{number}" for number in range(12)], 4, 5
    over = asyncio.Event()

    async def publish() -> None:
        while not over.is_set():
            for user in users:
                await publisher.publish(f"notifications/{user}", user)

    async def tab(user: str, number: int) -> None:
        for round_ in range(rounds):
            node = nodes[(number + round_) % 2]
            async with connected(node.url, make_token(user)) as client:
                answer = await client.subscribe(f"notifications/{user}")
                assert "recovered" not in answer, answer
                for _ in range(3):
                    assert (await client.receive())["type"] == "notifications"

    publishing = asyncio.create_task(publish())
    try:
        async with asyncio.TaskGroup() as group:
            for user in users:
                for number in range(tabs):
                    group.create_task(tab(user, number))
    finally:
        over.set()
        await publishing
    assert [node.gateway.stats.losses_reported for node in nodes] == [0, 0]


async def test_a_newcomer_to_a_trimmed_channel_is_told_of_no_loss(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces=FEW)
    for number in range(5):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        assert await client.data(2) == [3, 4]
        await client.sync()
    assert node.gateway.stats.losses_reported == 0


async def test_a_newcomer_who_leaves_before_the_answer_and_comes_again_is_told_of_no_loss(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a page does that is rendered twice, or left and opened again while Redis is slow."""
    node = await start_node(namespaces=FEW)
    for number in range(5):
        await publisher.publish(CHANNEL, number)
    asked, answered = hold_pages(node, monkeypatch)
    async with connected(node.url, make_token("u")) as client:
        await client.send({"type": "subscribe", "channel": CHANNEL})
        await asked.wait()
        await client.send({"type": "unsubscribe", "channel": CHANNEL})
        await client.expect(type="unsubscribed")
        await client.send({"type": "subscribe", "channel": CHANNEL})
        answered.set()
        assert "recovered" not in await client.expect(type="subscribed")
        assert await client.data(2) == [3, 4]
    assert node.gateway.stats.losses_reported == 0


async def test_a_newcomer_who_claims_to_begin_at_the_beginning_is_told_what_is_missing_and_raises_no_alert(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(namespaces=FEW)
    for number in range(5):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL, since=0))["recovered"] is False
        assert await client.data(2) == [3, 4]
    assert node.gateway.stats.losses_reported == 0


@pytest.mark.parametrize("before", [0, 1, 4])
async def test_who_was_there_once_is_told_of_what_was_trimmed_since_whatever_they_received(
    start_node: StartNode, publisher: AsyncPublisher, before: int
) -> None:
    node = await start_node(namespaces=FEW)
    for number in range(before):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await client.data(min(before, 2))
        await client.sync()
    await until(lambda: not node.gateway.hub.channels)
    await until(lambda: not node.gateway.redis.positions._gathered)
    for number in range(5):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL))["recovered"] is False
        assert await client.data(2) == [3, 4]
    assert node.gateway.stats.losses_reported == 1


@pytest.mark.parametrize("since", [0, 1, 2**53 - 1])
async def test_a_since_of_a_client_is_no_loss_of_a_user_who_has_confirmed_everything(
    start_node: StartNode,
    publisher: AsyncPublisher,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    since: int,
) -> None:
    """Otherwise any client could raise the alert as often as it likes."""
    caplog.set_level(logging.DEBUG, "gateway.node.catchup")
    node = await start_node(namespaces=FEW)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        ids = [(await publisher.publish(CHANNEL, number)).id for number in range(5)]
        assert await client.data(5) == [0, 1, 2, 3, 4]
        await until(lambda: has_confirmed(publisher, prefix, ids[-1]))
    for _ in range(3):
        async with connected(node.url, make_token("u")) as client:
            assert (await client.subscribe(CHANNEL, since=since))["recovered"] is False
            assert await client.data(2) == [3, 4]
    assert node.gateway.stats.losses_reported == 0
    assert told_of_losses(caplog) == [f"replay_incomplete channel={CHANNEL} user=u"] * 3


async def test_what_was_trimmed_behind_the_confirmed_position_is_a_loss_with_since_too(
    start_node: StartNode,
    publisher: AsyncPublisher,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = await start_node(namespaces=FEW)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = await publisher.publish(CHANNEL, "first")
        assert await client.data(1) == ["first"]
        await until(lambda: has_confirmed(publisher, prefix, first.id))
    for number in range(5):
        await publisher.publish(CHANNEL, number)
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL, since=first.id))["recovered"] is False
    assert node.gateway.stats.losses_reported == 1
    assert told_of_losses(caplog) == [f"messages_lost channel={CHANNEL} user=u"]


async def test_an_error_of_redis_that_does_not_pass_ends_the_live_subscriptions_it_concerns(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    """Rather than being mute for ever."""
    other = "run-results/other"
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = [
            await stack.enter_async_context(connected(node.url, make_token("u", [other])))
            for _ in range(2)
        ]
        for client in clients:
            await client.subscribe(CHANNEL)
            await client.subscribe(other)
        await publisher.publish(CHANNEL, 1)
        for client in clients:
            assert await client.data(1) == [1]
        log = f"{prefix}:log:{{{CHANNEL}}}"
        await publisher._client.set(log, "no log")
        # Something behind a gap comes.
        names = topology.keys(prefix)
        gap = names.publish, names.live(CHANNEL), b"9007199254740000:7:n:9"
        await publisher._client.execute_command(*gap)
        for client in clients:
            await client.expect(type="unsubscribed", channel=CHANNEL, reason="internal_error")
        await publisher.publish(other, 2)
        for client in clients:
            assert await client.data(1) == [2]
            await client.send({"type": "subscribe", "channel": CHANNEL})
            await client.expect(type="error", code="internal_error", channel=CHANNEL)
        await publisher._client.delete(log)
        for client in clients:
            await client.subscribe(CHANNEL)
