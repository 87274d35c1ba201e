"""What backends are told of users: in order, once for what happens to connections, also where a node dies or Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.backplane import event_writer as writers
from gateway.node import events as node_events
from gateway.node.stats import Stats
from publisher import AsyncPublisher, Event
from publisher.contract import events as contract
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support import topology
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.waiting import PATIENCE, until

ALL = ",".join(contract.KINDS)


class Reading:
    """A group's events as they come, those of all kinds but ``left_out``."""

    def __init__(self, publisher: AsyncPublisher, *left_out: str, group: str = "g") -> None:
        self.events = publisher.events(group, start="oldest")
        self._left_out = left_out

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await anext(self.events)
                if event.kind not in self._left_out:
                    return event

    async def expect(self, *kinds: str) -> list[Event]:
        found = [await self.next() for _ in kinds]
        assert tuple(each.kind for each in found) == kinds, found
        return found


@contextlib.asynccontextmanager
async def dead(node: Node) -> AsyncIterator[None]:
    """A node that does nothing any more, as if its process had been killed; its sockets are left as they are."""
    writer = node.gateway.redis.event_writer
    async with writer._one_at_a_time:
        yield


def present(node: Node) -> int:
    return len(node.gateway.hub.event_log.present)


async def test_a_connection_and_its_subscriptions_are_told_in_order(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(events=ALL)
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
        await publisher.notify("u", title="t", message="m")
        message = await client.expect(type="notifications")
        reading = Reading(publisher)
        await reading.expect("connected", "subscribed", "confirmed")
        await client.send({"type": "unsubscribe", "channel": "notifications/u"})
        await client.expect(type="unsubscribed")
        await client.subscribe("notifications/u")
    reading = Reading(publisher, group="other")
    found = await reading.expect(
        "connected", "subscribed", "confirmed", "unsubscribed", "subscribed", "disconnected"
    )
    assert {each.user for each in found} == {"u"}
    assert {each.node for each in found} == {node.gateway.node_id}
    assert [each.id for each in found] == sorted(each.id for each in found)
    begun, subscribed, confirmed, *_, ended = found
    assert begun.first
    assert ended.last
    assert begun.connection == ended.connection == subscribed.connection
    assert subscribed.channel == confirmed.channel == "notifications/u"
    assert confirmed.message == message["id"]
    assert confirmed.plain()["message"] == message["id"]


async def test_the_first_and_the_last_connection_of_a_user_are_marked_over_all_nodes(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    one, other = [await start_node(events="connected,disconnected") for _ in range(2)]
    reading = Reading(publisher)
    async with connected(one.url, make_token("u")):
        (first,) = await reading.expect("connected")
        async with connected(other.url, make_token("u")):
            (second,) = await reading.expect("connected")
        (third,) = await reading.expect("disconnected")
    (fourth,) = await reading.expect("disconnected")
    assert [each.first for each in (first, second)] == [True, False]
    assert [each.last for each in (third, fourth)] == [False, True]
    assert third.node == other.gateway.node_id


async def test_only_the_kinds_that_are_asked_for_are_told(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(events="disconnected")
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
    (ended,) = await Reading(publisher).expect("disconnected")
    assert ended.last


async def test_without_the_setting_nothing_is_written(
    node: Node, publisher: AsyncPublisher, redis_url: str, prefix: str
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
    assert not present(node)
    keys = topology.keys(prefix)
    async with topology.looking_at_async(redis_url) as redis:
        for key in (keys.events, keys.connected, keys.reporting):
            assert not await redis.exists(key)


async def test_a_dead_nodes_connections_end_once_however_many_nodes_notice(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    settings = {"events": "connected,disconnected", "node_lease_seconds": 1.0}
    dying = await start_node(**settings)
    reading = Reading(publisher)
    async with connected(dying.url, make_token("u")), connected(dying.url, make_token("v")):
        await reading.expect("connected", "connected")
        async with dead(dying):
            others = [await start_node(**settings) for _ in range(2)]
            ended = await reading.expect("disconnected", "disconnected")
            assert {each.user for each in ended} == {"u", "v"}
            assert all(each.last and each.node == dying.gateway.node_id for each in ended)
        # It was not dead after all: whoever is there still is told anew, and nobody ends twice.
        again = await reading.expect("connected", "connected")
        assert {each.connection for each in again} == {each.connection for each in ended}
    await reading.expect("disconnected", "disconnected")
    async with connected(others[0].url, make_token("w")):
        (event,) = await reading.expect("connected")
        assert event.user == "w"


async def test_what_redis_has_forgotten_is_told_anew(
    start_node: StartNode, publisher: AsyncPublisher, redis_url: str, prefix: str
) -> None:
    node = await start_node(events="connected,disconnected", node_lease_seconds=1.0)
    keys = topology.keys(prefix)
    reading = Reading(publisher)
    async with connected(node.url, make_token("u")):
        await reading.expect("connected")
        async with topology.looking_at_async(redis_url) as redis:
            own = keys.connected_at(node.gateway.node_id)
            await redis.delete(keys.events, keys.connected, keys.reporting, own)
        (event,) = await reading.expect("connected")
        assert event.first
    (event,) = await reading.expect("disconnected")
    assert event.last


async def test_what_happens_while_redis_is_away_is_told_when_it_is_back(
    proxy: Proxy, gateway_url: str, prefix: str, publisher: AsyncPublisher
) -> None:
    reading = Reading(publisher)
    way = f"{gateway_url.rpartition(':')[0]}:{proxy.port}"
    async with running_node(way, prefix, events="connected,disconnected") as node:
        async with connected(node.url, make_token("u")):
            await reading.expect("connected")
            proxy.refuse()
        await until(lambda: not present(node))
        await proxy.start()
        (event,) = await reading.expect("disconnected")
        assert event.last


async def test_of_too_many_that_wait_some_are_counted_and_connections_are_made_up_for(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_events, "WAITING", 1)
    node = await start_node(events="connected,disconnected", node_lease_seconds=1.0)
    reading = Reading(publisher)
    async with contextlib.AsyncExitStack() as stack:
        async with dead(node):
            for user in ("u", "v", "w"):
                await stack.enter_async_context(connected(node.url, make_token(user)))
        begun = await reading.expect("connected", "connected", "connected")
        assert {each.user for each in begun} == {"u", "v", "w"}
    assert node.gateway.stats.events_dropped >= 2
    _, metrics = await node.get("/metrics")
    assert "gateway_events_dropped_total" in metrics


async def test_a_call_whose_answer_is_lost_writes_nothing_twice(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(events="subscribed,unsubscribed")
    writer = node.gateway.redis.event_writer
    async with connected(node.url, make_token("u")) as client:
        async with writer._one_at_a_time:
            await client.subscribe("notifications/u")
            batch = writer._log.take(10)
            await writer._write(batch)
            writer._number -= 1
            await writer._write(batch)
        await client.send({"type": "unsubscribe", "channel": "notifications/u"})
        await client.expect(type="unsubscribed")
        await Reading(publisher).expect("subscribed", "unsubscribed")


async def test_a_node_that_stood_still_beyond_its_lease_compares_before_it_writes(
    start_node: StartNode, publisher: AsyncPublisher, redis_url: str, prefix: str
) -> None:
    settings = {"events": "connected,disconnected", "node_lease_seconds": 1.0}
    still, other = [await start_node(**settings) for _ in range(2)]
    writer = still.gateway.redis.event_writer
    keys = topology.keys(prefix)
    reading = Reading(publisher)
    async with connected(still.url, make_token("u")):
        await reading.expect("connected")
        async with writer._one_at_a_time:
            async with connected(still.url, make_token("v")):
                await reading.expect("disconnected")
                # It goes on where it stood: before the renewal of its lease, with what it was about to write.
                with pytest.raises(writers._LeaseOver):
                    await writer._write_all()
                async with topology.looking_at_async(redis_url) as redis:
                    assert not await redis.exists(keys.connected_at(still.gateway.node_id))
        found = await reading.expect("connected", "disconnected", "connected")
    assert sorted((each.user, each.kind, each.first or each.last) for each in found) == [
        ("u", "connected", True),
        ("v", "connected", True),
        ("v", "disconnected", True),
    ]
    await reading.expect("disconnected")
    assert other.gateway.stats.events_dropped == 0


async def test_what_comes_after_a_batch_that_redis_refused_halfway_is_told(
    start_node: StartNode, publisher: AsyncPublisher, redis_url: str, prefix: str
) -> None:
    node = await start_node(events="subscribed,unsubscribed")
    keys = topology.keys(prefix)
    async with connected(node.url, make_token("u")) as client:
        async with topology.looking_at_async(redis_url) as redis:
            await redis.set(keys.events, "no stream")
            await client.subscribe("notifications/u")
            await until(lambda: node.gateway.stats.events_dropped == 1)
            await redis.delete(keys.events)
        await client.send({"type": "unsubscribe", "channel": "notifications/u"})
        await client.expect(type="unsubscribed")
        await Reading(publisher).expect("unsubscribed")


def test_what_is_confirmed_has_its_place_and_its_moment() -> None:
    moment = 1.0
    noted = node_events.EventLog(("confirmed", "lost"), "n", lambda: moment, Stats())
    noted.lost("a/1", ["u"])
    noted.confirmed("a/1", "u", 5)
    noted.lost("a/1", ["v"])
    moment = 2.0
    noted.confirmed("a/1", "u", 7)
    moment = 9.0
    fields = [
        dict(zip(each.fields[::2], each.fields[1::2], strict=True)) for each in noted.take(10)
    ]
    assert [each["kind"] for each in fields] == ["lost", "confirmed", "lost"]
    assert (fields[1]["message"], fields[1]["timestamp"]) == (7, 2000)
    noted.confirmed("a/1", "u", 8)
    assert len(noted.take(10)) == 1
