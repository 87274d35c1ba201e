"""What users have confirmed, as Redis holds it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.backplane.store import Cursors
from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from tests.support.nodes import Node
from tests.support.waiting import until

CHANNEL = "run-results/s"
FIRST, SECOND = 1_795_365_451_321_934, 1_795_365_451_321_935


async def test_what_is_confirmed_moves_forward_only(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    cursors, client = node.gateway._cursors, publisher._client
    seen = Keys(prefix).seen(CHANNEL)
    # Another node knows more of one, less of the other.
    await client.zadd(seen, {"u": SECOND, "v": FIRST})
    for user in ("u", "v", "w"):
        cursors.advance(CHANNEL, user, FIRST if user == "u" else SECOND)
    await cursors.flush()
    assert await client.zrange(seen, 0, -1, withscores=True) == [
        (user, SECOND) for user in (b"u", b"v", b"w")
    ]


async def test_what_is_confirmed_is_kept_for_thirty_days_after_the_last_of_it(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    cursors, client = node.gateway._cursors, publisher._client
    seen = Keys(prefix).seen(CHANNEL)
    for id_ in (FIRST, SECOND):
        cursors.advance(CHANNEL, "u", id_)
        await cursors.flush()
        assert 30 * 86_400 - 60 <= await client.ttl(seen) <= 30 * 86_400
        await client.expire(seen, 5)


async def test_of_a_crowd_in_one_channel_nobody_is_left_out(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    cursors = node.gateway._cursors
    for number in range(1_201):
        cursors.advance(CHANNEL, f"u{number}", FIRST + number)
    await cursors.flush()
    users = await publisher._client.zrange(Keys(prefix).seen(CHANNEL), 0, -1, withscores=True)
    assert users == [(b"u%d" % number, FIRST + number) for number in range(1_201)]


async def test_what_has_its_position_but_no_expiry_is_written_again(
    node: Node, publisher: AsyncPublisher, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors, client = node.gateway._cursors, publisher._client
    cursors.advance(CHANNEL, "u", FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(cursors, "_lifetime", lambda _channel: "never")
        with pytest.raises(Unavailable):
            await cursors.flush()
    assert cursors.confirmed(CHANNEL, "u") == FIRST
    assert await client.zscore(Keys(prefix).seen(CHANNEL), "u") == FIRST
    await cursors.flush()
    assert await client.ttl(Keys(prefix).seen(CHANNEL)) > 0
    assert cursors.confirmed(CHANNEL, "u") == 0


async def test_what_was_being_written_when_the_writer_was_stopped_stays_noted(
    node: Node, publisher: AsyncPublisher, prefix: str
) -> None:
    pipeline = node.gateway._pipeline
    cursors = Cursors(pipeline, Keys(prefix), node.gateway._namespaces, lambda: 0.0)
    await until(lambda: pipeline._commands and not pipeline.under_way)
    commands = pipeline._commands
    assert commands is not None
    commands.transport.pause_reading()
    for user in ("u", "v"):
        cursors.advance(CHANNEL, user, FIRST)
        cursors.advance("notifications/" + user, user, FIRST)
    flush = asyncio.create_task(cursors.flush())
    await until(lambda: pipeline.under_way)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    commands.transport.resume_reading()
    assert cursors.confirmed(CHANNEL, "v") == cursors.confirmed("notifications/u", "u") == FIRST
    await cursors.flush()
    assert await publisher._client.zscore(Keys(prefix).seen(CHANNEL), "v") == FIRST
