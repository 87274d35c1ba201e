"""After a failover to a replica with an older log and an older clock: what is there is delivered, and the loss is told.

Real servers: the primary takes on the data of a replica that was cut off from it, as the replica's promotion
does for those who reach it under the same address.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from publisher import AsyncPublisher, Receipt
from tests.integration.conftest import StartNode
from tests.publisher.replicated import Replicated, replicated_redis
from tests.support.client import Client, connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
AHEAD_US = 3_600_000_000
"""So far is the primary's clock ahead of the replica's."""


class Cluster:
    """A primary, a replica, and what becomes of the primary's data."""

    def __init__(self, pair: Replicated, prefix: str, channel: str = CHANNEL) -> None:
        self.pair = pair
        self.url = pair.url
        self.replica_url = f"redis://127.0.0.1:{pair.replica.info('server')['tcp_port']}"
        self.prefix = prefix
        self.channel = channel

    def key(self, kind: str) -> str:
        return f"{self.prefix}:{kind}:{{{self.channel}}}"

    def cut_the_replica_off(self) -> None:
        self.pair.settle()
        self.pair.replica.replicaof("NO", "ONE")

    def publish_ahead(self, data: str) -> int:
        """Publish on the primary as ``publish.lua`` does, with a clock that is ahead; returns the id."""
        last = self.last()
        entry = f"{last + AHEAD_US}:{last}:n:{json.dumps(data)}"
        self.pair.primary.zadd(self.key("log"), {entry: last + AHEAD_US})
        self.pair.primary.set(self.key("last"), last + AHEAD_US)
        self.pair.primary.publish(self.key("live"), entry)
        return last + AHEAD_US

    def publish_unheard(self, data: str, server: redis.Redis | None = None) -> int:
        """Publish on the primary, or on another server, so that no node hears it; returns the id."""
        server = server or self.pair.primary
        last = int(server.get(self.key("last")) or 0)
        seconds, microseconds = server.time()
        id_ = max(seconds * 1_000_000 + microseconds, last + 1)
        server.zadd(self.key("log"), {f"{id_}:{last}:n{id_}:{json.dumps(data)}": id_})
        server.set(self.key("last"), id_)
        return id_

    async def fail_over(self) -> None:
        primary, port = self.pair.primary, urlsplit(self.replica_url).port
        primary.replicaof("127.0.0.1", port)
        await until(lambda: primary.info("replication")["master_link_status"] == "up")
        primary.replicaof("NO", "ONE")
        primary.client_kill_filter(_type="pubsub")
        primary.client_kill_filter(_type="normal", skipme=True)

    async def follow(self) -> None:
        """Let the replica follow the primary again."""
        self.pair.replica.replicaof("127.0.0.1", urlsplit(self.url).port)
        await until(lambda: self.pair.replica.info("replication")["master_link_status"] == "up")

    def position(self) -> int:
        return int(self.pair.primary.zscore(self.key("confirmed"), "u") or 0)

    def last(self) -> int:
        return int(self.pair.primary.get(self.key("last")) or 0)

    def newest_logged(self) -> int:
        return int(self.pair.primary.zrange(self.key("log"), -1, -1, withscores=True)[0][1])


@pytest.fixture
def cluster(tmp_path: Path, prefix: str) -> Iterator[Cluster]:
    with replicated_redis(tmp_path) as pair:
        yield Cluster(pair, prefix)


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    return cluster.url


@pytest.fixture
async def promoted(cluster: Cluster, prefix: str) -> AsyncIterator[AsyncPublisher]:
    """A publisher to the replica."""
    async with AsyncPublisher.from_url(cluster.replica_url, prefix=prefix) as publisher:
        yield publisher


async def received(client: Client, count: int) -> list[Any]:
    return [(await client.receive())["data"] for _ in range(count)]


async def test_who_is_connected_is_told_and_gets_all_that_the_new_primary_retains(
    node: Node, publisher: AsyncPublisher, promoted: AsyncPublisher, cluster: Cluster
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "kept")
        assert await client.data(1) == ["kept"]
        cluster.cut_the_replica_off()
        lost = cluster.publish_ahead("lost")
        assert await client.data(1) == ["lost"]
        # Published before any node has looked: its id is far below what the client has.
        forked = await promoted.publish(CHANNEL, "forked")
        assert forked.id < lost
        await cluster.fail_over()
        await client.expect(type="error", code="messages_lost", channel=CHANNEL)
        assert await client.data(2) == ["kept", "forked"]
        await until(node.gateway.ready)
        published = await until(lambda: _published(publisher, "new"))
        assert published.id > lost
        assert await client.data(1) == ["new"]
        await client.sync()
        await until(lambda: cluster.position() == published.id)
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        await client.sync()
    assert node.gateway.stats.losses_reported == 1


async def _published(publisher: AsyncPublisher, data: str) -> Any:
    try:
        return await publisher.publish(CHANNEL, data)
    except Exception:  # noqa: BLE001 - until the new primary is reached
        return None


async def test_whoever_was_away_is_told_once_and_gets_what_the_new_primary_retains(
    start_node: StartNode, publisher: AsyncPublisher, promoted: AsyncPublisher, cluster: Cluster
) -> None:
    node = await start_node()
    await publisher.publish(CHANNEL, "kept")
    cluster.cut_the_replica_off()
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        lost = cluster.publish_ahead("lost")
        assert await client.data(2) == ["kept", "lost"]
    await promoted.publish(CHANNEL, "forked")
    await cluster.fail_over()
    await until(node.gateway.ready)
    async with connected(node.url, make_token("u")) as client:
        # Its position is unknown to the new primary, so it knows no loss, and gets all there is.
        await client.subscribe(CHANNEL)
        assert await client.data(2) == ["kept", "forked"]
        await client.sync()
        assert (await client.subscribe(CHANNEL, since=lost))["recovered"] is False
        assert await client.data(2) == ["kept", "forked"]
        await client.sync()


async def test_a_position_above_all_that_redis_knows_is_set_back(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    """A node of an older version has written it after the failover."""
    first = await publisher.publish(CHANNEL, "kept")
    lost = first.id + AHEAD_US
    cluster.pair.primary.zadd(cluster.key("confirmed"), {"u": lost})
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL))["recovered"] is False
        assert await client.data(1) == ["kept"]
        await until(lambda: cluster.position() > lost)
        assert cluster.position() == cluster.last()
    for data in ("new", "newer"):
        async with connected(node.url, make_token("u")) as client:
            published = await publisher.publish(CHANNEL, data)
            assert published.id > lost
            assert "recovered" not in await client.subscribe(CHANNEL)
            assert await client.data(1) == [data]
            await client.sync()
            await until(lambda id_=published.id: cluster.position() == id_)
    assert node.gateway.stats.losses_reported == 1


async def test_new_ids_are_above_every_position_that_redis_knows(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    """Else whoever has what is published next would be told of a loss once more."""
    first = await publisher.publish(CHANNEL, "kept")
    lost = first.id + AHEAD_US
    cluster.pair.primary.zadd(cluster.key("confirmed"), {"u": lost, "v": lost + AHEAD_US})
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL))["recovered"] is False
    assert (await publisher.publish(CHANNEL, "new")).id > lost + AHEAD_US


async def test_what_a_client_claims_raises_no_id(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    await publisher.publish(CHANNEL, "kept")
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL, since=2**53 - 1))["recovered"] is False
        assert await client.data(1) == ["kept"]
        await client.sync()
    assert cluster.last() == cluster.newest_logged()


async def test_a_pong_for_what_was_lost_confirms_nothing_of_what_came_instead(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    published = [await publisher.publish(CHANNEL, number) for number in range(3)]
    positions = node.gateway.redis.positions
    for lost in (published[1].id + 1, published[2].id + AHEAD_US):
        positions.advance(CHANNEL, "u", lost)
        await positions.flush()
        assert cluster.position() == 0
    positions.advance(CHANNEL, "u", published[1].id)
    await positions.flush()
    assert cluster.position() == published[1].id


async def test_without_a_failover_positions_of_messages_that_have_left_the_log_are_written(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    published = [await publisher.publish(CHANNEL, number) for number in range(3)]
    cluster.pair.primary.zremrangebyrank(cluster.key("log"), 0, 1)
    positions = node.gateway.redis.positions
    for id_ in (published[0].id, published[1].id, published[2].id):
        positions.advance(CHANNEL, "u", id_)
        await positions.flush()
        assert cluster.position() == id_


async def test_a_receipt_for_what_was_not_sent_is_of_a_message_that_the_failover_has_lost(
    node: Node, publisher: AsyncPublisher, promoted: AsyncPublisher, cluster: Cluster
) -> None:
    """As docs/publisher.md says ("Receipts"): what is kept is sent before anything behind it is confirmed."""
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        first = await publisher.publish(CHANNEL, "first")
        assert await client.data(1) == ["first"]
        await until(lambda: cluster.position() == first.id)
        cluster.cut_the_replica_off()
        lost = cluster.publish_unheard("lost")
        kept = cluster.publish_unheard("kept", cluster.pair.replica)
        newest = await promoted.publish(CHANNEL, "newest")
        assert first.id < lost < kept < newest.id
        assert cluster.position() == first.id
        await cluster.fail_over()
        assert await client.data(2) == ["kept", "newest"]
        await until(lambda: cluster.position() == newest.id)
        await client.sync()
    assert [each.data for each in await promoted.history(CHANNEL)] == ["first", "kept", "newest"]
    async with AsyncPublisher.from_url(cluster.url, prefix=cluster.prefix) as reader:
        for id_ in (lost, kept):
            assert await reader.receipts(CHANNEL, id_) == [Receipt("u", newest.id)]


async def test_what_was_taken_out_around_a_lost_message_stands_for_others_only(
    node: Node, publisher: AsyncPublisher, promoted: AsyncPublisher, cluster: Cluster
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, "kept")
        assert await client.data(1) == ["kept"]
        cluster.cut_the_replica_off()
        await promoted.publish(CHANNEL, "forked")
        before = await promoted.publish(CHANNEL, "taken out")
        lost = await publisher.publish(CHANNEL, "lost")
        assert await client.data(1) == ["lost"]
        after = await promoted.publish(CHANNEL, "taken out, too")
        assert before.id < lost.id < after.id
        for each in (before, after):
            assert await promoted.delete(CHANNEL, each.id)
        await cluster.fail_over()
        await client.expect(type="error", code="messages_lost", channel=CHANNEL)
        assert await client.data(2) == ["kept", "forked"]


async def test_a_position_between_messages_that_were_taken_out_is_not_written(
    node: Node, publisher: AsyncPublisher, cluster: Cluster
) -> None:
    published = [(await publisher.publish(CHANNEL, number)).id for number in range(4)]
    for id_ in published[1:3]:
        assert await publisher.delete(CHANNEL, id_)
    positions = node.gateway.redis.positions
    for id_, written in ((published[1] + 1, 0), (published[1], published[1])):
        positions.advance(CHANNEL, "u", id_)
        await positions.flush()
        assert cluster.position() == written
