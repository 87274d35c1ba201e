"""Entries of a later version's publisher, and of one that follows other rules, on this version's node."""

from __future__ import annotations

import time

import pytest

from publisher import AsyncPublisher, Namespace, Owner, Retention
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.topology import keys
from tests.support.waiting import until

CHANNEL = "notifications/u"


class LaterPublisher:
    """Writes entries as ``publish.lua`` does, with an extension or without a body."""

    def __init__(self, publisher: AsyncPublisher, prefix: str) -> None:
        self._redis = publisher._client
        self._prefix = prefix
        self._publish = keys(prefix).publish
        self.last = (int(time.time()) - 60) * 1_000_000

    async def write(self, body: str, extension: str = "", *, live: bool = True) -> int:
        id_, prev = self.last + 10, self.last
        if not await self._redis.exists(f"{self._prefix}:last:{{{CHANNEL}}}"):
            prev = 0
        self.last = id_
        entry = f"{id_}:{prev}:n{'+' if extension else ''}{extension}:{body}"
        await self._redis.zadd(f"{self._prefix}:log:{{{CHANNEL}}}", {entry: id_})
        await self._redis.set(f"{self._prefix}:last:{{{CHANNEL}}}", id_)
        if live:
            await self._redis.execute_command(
                self._publish, f"{self._prefix}:live:{{{CHANNEL}}}", entry
            )
        return id_

    async def read_by_an_upgraded_node(self) -> None:
        """Write the entries anew in a form that this version can read, in place of the upgrade."""
        log = f"{self._prefix}:log:{{{CHANNEL}}}"
        for entry, id_ in await self._redis.zrange(log, 0, -1, withscores=True):
            await self._redis.zrem(log, entry)
            await self._redis.zadd(log, {entry.replace(b"+z9", b""): id_})

    async def confirmed(self) -> int:
        seen = await self._redis.zscore(f"{self._prefix}:confirmed:{{{CHANNEL}}}", "u")
        return int(seen or 0)


@pytest.fixture
def later(publisher: AsyncPublisher, prefix: str) -> LaterPublisher:
    return LaterPublisher(publisher, prefix)


@pytest.mark.parametrize("live", [True, False])
async def test_a_channel_stops_in_front_of_what_only_a_later_version_can_read_and_loses_nothing(
    start_node: StartNode, later: LaterPublisher, caplog: pytest.LogCaptureFixture, live: bool
) -> None:
    node = await start_node()
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await later.write("1")
        assert await client.data(1) == [1]
        # Without the live copy, the next message shows the gap and the log is read.
        unreadable = await later.write("2", "z9", live=live)
        await later.write("3")
        await until(lambda: node.gateway.stats.messages_unknown >= 1)
        await client.send({"type": "ack", "channel": CHANNEL, "id": later.last})
        await client.sync()
    async with connected(node.url, make_token("u")) as again:
        assert "recovered" not in await again.subscribe(CHANNEL)
        await again.send({"type": "ack", "channel": CHANNEL, "id": later.last})
        await later.write("4")
        await again.sync()
        # Who has been served by an upgraded node is ahead of all that, and goes on.
        assert (await again.subscribe(CHANNEL, since=unreadable))["recovered"] is True
        assert await again.data(2) == [3, 4]
        await later.write("5")
        assert await again.data(1) == [5]
        await again.sync()
    assert node.gateway.stats.losses_reported == 0
    errors = [each for each in caplog.records if "extension_unknown" in each.message]
    assert [each.levelname for each in errors] == ["ERROR"]
    assert "upgraded" in errors[0].message


async def test_after_the_upgrade_all_of_it_comes(node: Node, later: LaterPublisher) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe(CHANNEL)
        await later.write("1")
        assert await client.data(1) == [1]
        await later.write("2", "z9")
        await later.write("3")
        await client.sync()
    await node.gateway.redis.positions.flush()
    assert await later.confirmed() < later.last - 10
    await later.read_by_an_upgraded_node()
    async with connected(node.url, make_token("u")) as client:
        assert "recovered" not in await client.subscribe(CHANNEL)
        heard = await client.data(2)
        assert heard in ([2, 3], [1, 2])  # the last before the stop may come once more
        if heard == [1, 2]:
            assert await client.data(1) == [3]
        await client.sync()


async def test_what_was_taken_out_is_not_sent_and_is_no_loss(
    node: Node, later: LaterPublisher
) -> None:
    await later.write("1")
    await later.write("")
    await later.write("3")
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe(CHANNEL, since=0))["recovered"] is True
        assert await client.data(2) == [1, 3]
        await later.write("")
        await later.write("5")
        assert await client.data(1) == [5]
        last = await later.write("")
        await until(lambda: _confirmed_or_noted(node, later, last))
        await client.sync()
    assert node.gateway.stats.losses_reported == 0
    assert node.gateway.stats.gaps == 0


async def _confirmed_or_noted(node: Node, later: LaterPublisher, id_: int) -> bool:
    await node.gateway.redis.positions.flush()
    return await later.confirmed() == id_


async def test_what_keeps_no_log_any_more_is_never_repaired_from_the_old_one(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    """A publisher learns of new rules within a minute, and follows the old ones till then."""
    node = await start_node(namespaces={"calls": {"owner": "anyone", "retention": None}})
    old = {"calls": Namespace("calls", Owner.ANYONE, Retention(1_000, 60))}
    publisher._operations.namespaces = old
    publisher._operations._learnt_at = float("inf")
    await publisher.publish_many([("calls/x", number) for number in range(500)])
    async with connected(node.url, make_token("u")) as client:
        assert (await client.subscribe("calls/x", since=0))["recovered"] is False
        await publisher.publish("calls/x", 500)
        assert await client.data(1) == [500]
        await publisher.publish("calls/x", 501)
        assert await client.data(1) == [501]
        await node.gateway.delivery.catchup.check_all()
        await client.sync()
    assert node.gateway.stats.messages_repaired == 0
    assert node.gateway.stats.gaps == 0
