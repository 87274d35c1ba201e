"""What is asked of a log when something before a page is missing, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.node.connection import Subscription
from gateway.node.log_readers import Audience, Members, One
from gateway.node.recovery import Loss
from publisher.contract.message import LogPage
from tests.unit.bench import Bench, FakeRedis
from tests.unit.fakes import NEWS, logged, make_connection, turn

Next = asyncio.Task[tuple[LogPage, int, Loss]]


class RaisedRedis(FakeRedis):
    """Notes above which ids new messages are to be."""

    raised: tuple[int, ...] = ()

    async def raise_last(self, channel: str, position: int) -> None:
        self.raised = (*self.raised, position)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(RaisedRedis)
    yield bench
    await bench.close()


def members(bench: Bench, position: int) -> Members:
    """Those who listen live, and have heard everything up to a position."""
    client, _ = make_connection()
    channel = bench.node.listen(client).live
    assert channel is not None
    channel.position = position
    return Members(channel, bench.node.hub, bench.node.confirmation)


def newcomer(bench: Bench, since: int) -> One:
    """Somebody who claims to have everything up to a position."""
    client, _ = make_connection()
    parts = bench.node.hub, bench.node.confirmation, bench.patience, bench.pacing
    return One(bench.node.open(), Subscription(client, NEWS), *parts, since)


def ask(bench: Bench, audience: Audience) -> Next:
    return asyncio.create_task(bench.catchup._pages.next(audience))


async def test_new_ids_are_above_a_position_that_a_failover_has_lost(bench: Bench) -> None:
    bench.redis.log = [logged(4, 2)]
    following = ask(bench, members(bench, 10))
    await bench.settle()
    page, _, loss = await following
    assert loss is Loss.UNCONFIRMED
    assert [each.id for each in page.messages] == [4]
    assert bench.redis.raised == (10,)


async def test_a_position_that_only_a_client_claims_raises_no_ids(bench: Bench) -> None:
    bench.redis.log = [logged(4, 2)]
    following = ask(bench, newcomer(bench, since=10))
    await bench.settle()
    assert (await following)[2] is Loss.UNCONFIRMED
    assert bench.redis.raised == ()


async def test_a_position_that_was_trimmed_away_raises_no_ids(bench: Bench) -> None:
    bench.redis.log = [logged(6, 4)]
    following = ask(bench, members(bench, 2))
    await bench.settle()
    assert (await following)[2] is Loss.UNCONFIRMED
    assert bench.redis.raised == ()


async def test_what_a_channel_was_brought_meanwhile_is_not_told_as_lost(bench: Bench) -> None:
    bench.redis.log = [logged(6, 4)]
    audience = members(bench, 2)
    following = ask(bench, audience)
    await turn()
    bench.redis.answer()
    await turn()
    # A subscription that has read further brings the channel along while the log is asked about the hole.
    audience.channel.position = 6
    await bench.settle()
    _, start, loss = await following
    assert (start, loss) == (6, Loss.NOTHING)
