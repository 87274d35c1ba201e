"""What users have confirmed, as Redis holds it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.backplane.store import Positions
from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "run-results/s"
FIRST, SECOND = 1_795_365_451_321_934, 1_795_365_451_321_935


async def test_what_is_confirmed_moves_forward_only(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    positions, client = node.gateway.redis.positions, publisher._client
    seen = Keys(prefix).confirmed(CHANNEL)
    # Another node knows more of one, less of the other.
    await client.zadd(seen, {"u": SECOND, "v": FIRST})
    for user in ("u", "v", "w"):
        positions.advance(CHANNEL, user, FIRST if user == "u" else SECOND)
    await positions.flush()
    assert await client.zrange(seen, 0, -1, withscores=True) == [
        (user, SECOND) for user in (b"u", b"v", b"w")
    ]


async def test_what_is_confirmed_is_kept_for_thirty_days_after_the_last_of_it(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    positions, client = node.gateway.redis.positions, publisher._client
    seen = Keys(prefix).confirmed(CHANNEL)
    for id_ in (FIRST, SECOND):
        positions.advance(CHANNEL, "u", id_)
        await positions.flush()
        assert 30 * 86_400 - 60 <= await client.ttl(seen) <= 30 * 86_400
        await client.expire(seen, 5)


async def test_of_a_crowd_in_one_channel_nobody_is_left_out(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    positions = node.gateway.redis.positions
    for number in range(1_201):
        positions.advance(CHANNEL, f"u{number}", FIRST + number)
    await positions.flush()
    users = await publisher._client.zrange(Keys(prefix).confirmed(CHANNEL), 0, -1, withscores=True)
    assert users == [(b"u%d" % number, FIRST + number) for number in range(1_201)]


@pytest.mark.one_server("its one connection is looked at")
async def test_what_was_being_written_when_the_writer_was_stopped_stays_noted(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    pipeline = node.gateway.redis.pipeline
    positions = Positions(
        pipeline, Keys(prefix), node.gateway._settings.all_namespaces, lambda: 0.0
    )
    await until(lambda: pipeline._commands and not pipeline.under_way)
    commands = pipeline._commands
    assert commands is not None
    commands.transport.pause_reading()
    for user in ("u", "v"):
        positions.advance(CHANNEL, user, FIRST)
        positions.advance("notifications/" + user, user, FIRST)
    flush = asyncio.create_task(positions.flush())
    await until(lambda: pipeline.under_way)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    commands.transport.resume_reading()
    assert positions.confirmed(CHANNEL, "v") == positions.confirmed("notifications/u", "u") == FIRST
    await positions.flush()
    assert await publisher._client.zscore(Keys(prefix).confirmed(CHANNEL), "v") == FIRST


DAY = 86_400 * 1_000_000


async def test_a_channel_in_use_keeps_no_position_longer_than_promised(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the longest log twice over, and 30 days at least; then a position proves nothing any more."""
    positions, client, seen = (
        node.gateway.redis.positions,
        publisher._client,
        Keys(prefix).confirmed(CHANNEL),
    )
    await client.zadd(seen, {f"old{number}": FIRST - 31 * DAY - number for number in range(2_500)})
    await client.zadd(seen, {"kept": FIRST - 29 * DAY})
    monkeypatch.setattr(positions, "_random", lambda: 0.0)
    removed = []
    for number in range(4):
        before = await client.zcard(seen)
        positions.advance(CHANNEL, "u", FIRST + number)
        await positions.flush()
        removed.append(before - await client.zcard(seen))
    # A few at a time: one call must not hold up the others.
    assert removed == [1_000 - 1, 1_000, 500, 0]
    assert await client.zrange(seen, 0, -1) == [b"kept", b"u"]


async def test_who_was_there_before_anything_was_published_is_remembered(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be taken for somebody new, who is told of no loss."""
    positions, client, seen = (
        node.gateway.redis.positions,
        publisher._client,
        Keys(prefix).confirmed(CHANNEL),
    )
    positions.advance(CHANNEL, "early", 0)
    await positions.flush()
    published = await publisher.publish(CHANNEL, 1)
    monkeypatch.setattr(positions, "_random", lambda: 0.0)
    positions.advance(CHANNEL, "u", published.id)
    await positions.flush()
    assert await client.zscore(seen, "early") == 0


async def test_many_writes_prune_more_than_they_add(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    """With the odds that a node has: whoever never comes back does not stay."""
    positions, client, seen = (
        node.gateway.redis.positions,
        publisher._client,
        Keys(prefix).confirmed(CHANNEL),
    )
    for round_ in range(20):
        for number in range(500):
            positions.advance(CHANNEL, f"{round_}-{number}", FIRST + round_ * 10 * DAY)
        await positions.flush()
    # Those of the last 30 days, and at most the write that came since.
    assert await client.zcard(seen) <= 5 * 500


async def test_a_channel_that_redis_refuses_slows_nobody_down_and_is_logged_once(
    node: Node, publisher: AsyncPublisher, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    positions, client, keys = node.gateway.redis.positions, publisher._client, Keys(prefix)
    bad, good = "run-results/bad", "run-results/good"
    await client.set(keys.confirmed(bad), "no sorted set")
    for id_ in (FIRST, SECOND):
        positions.advance(bad, "u", id_)
        positions.advance(good, "u", id_)
        await positions.flush()  # nothing to wait for before the next write
        assert await client.zscore(keys.confirmed(good), "u") == id_
        assert positions.confirmed(bad, "u") == positions.confirmed(good, "u") == 0
    refusals = [each for each in caplog.records if "positions_refused" in each.getMessage()]
    assert len(refusals) == 1
    assert bad in refusals[0].getMessage()
    assert node.gateway.stats.redis_errors
    await client.delete(keys.confirmed(bad))
    positions.advance(bad, "u", SECOND)
    await positions.flush()
    assert await client.zscore(keys.confirmed(bad), "u") == SECOND


@pytest.fixture
def few_awaited(monkeypatch: pytest.MonkeyPatch) -> int:
    """In so many channels without a message a user may begin in a day."""
    monkeypatch.setattr("gateway.node.confirmation._AWAITED_A_DAY", 5)
    return 5


async def test_a_user_who_subscribes_to_ever_other_channels_leaves_few_keys_in_redis(
    few_awaited: int, start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """However often they connect again. Other users have their own."""
    node = await start_node()
    keys = Keys(prefix)
    channels = [f"run-results/{number}" for number in range(4 * few_awaited)]
    for user, some in (("u", channels[:10]), ("u", channels[10:]), ("v", channels[:1])):
        async with connected(node.url, make_token(user, ["run-results/*"])) as client:
            for channel in some:
                await client.subscribe(channel)
            # Once more: what is not kept is not counted as new again and again.
            await client.subscribe(some[0])
    await node.gateway.redis.positions.flush()
    redis = publisher._client
    begun = [each for each in channels if await redis.zscore(keys.confirmed(each), "u") == 0]
    assert begun == channels[:few_awaited]
    assert await redis.zscore(keys.confirmed(channels[0]), "v") == 0


async def test_whoever_is_in_too_many_channels_without_a_message_is_sent_all_that_comes(
    few_awaited: int, start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    node = await start_node()
    keys = Keys(prefix)
    channels = [f"run-results/{number}" for number in range(2 * few_awaited)]
    token = make_token("u", ["run-results/*"])
    async with connected(node.url, token) as client:
        for channel in channels:
            await client.subscribe(channel)
        live = await publisher.publish(channels[-1], "live")
        assert await client.data(1) == ["live"]
        await until(lambda: _confirmed(publisher, keys, channels[-1], live.id))
    for channel in channels:
        await publisher.publish(channel, "meanwhile")
    async with connected(node.url, token) as client:
        for channel in channels:
            assert "recovered" not in await client.subscribe(channel)
            assert await client.data(1) == ["meanwhile"]


async def _confirmed(publisher: AsyncPublisher, keys: Keys, channel: str, id_: int | None) -> bool:
    return await publisher._client.zscore(keys.confirmed(channel), "u") == id_
