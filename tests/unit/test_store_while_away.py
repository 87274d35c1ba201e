"""What a node reads and writes for channels, while one of several servers is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.backplane.servers import Servers
from gateway.backplane.store import GrantReader, Positions
from gateway.node.stats import Stats
from publisher.contract.calls import Call
from publisher.contract.channels import DEFAULT_NAMESPACES
from publisher.contract.keys import Keys
from publisher.errors import Unavailable

KEYS = Keys(sharded=True)
HERE, THERE = "notifications/here", "notifications/there"


class Redis:
    """Notes the keys of calls; nothing may be asked of a server that is ``away``."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.asked: list[str] = []

    async def call(self, call: Call) -> Any:
        key = str(call.key)
        assert key not in self.away
        self.asked.append(key)
        return None if key == KEYS.marker else 5_000

    def begin(self, call: Call) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.call(call))

    def is_away(self, key: str) -> bool:
        return key in self.away


async def test_positions_for_a_server_that_is_away_stay_and_the_others_are_written() -> None:
    redis = Redis()
    pipeline: Any = redis
    positions = Positions(
        pipeline, KEYS, DEFAULT_NAMESPACES, lambda: 1.0, Servers(away=redis.is_away)
    )
    redis.away = {KEYS.confirmed(THERE)}
    positions.advance(HERE, "u", 7)
    positions.advance(THERE, "u", 5)
    await positions.flush()
    assert redis.asked == [KEYS.confirmed(HERE)]
    assert positions.confirmed(HERE, "u") == 0
    assert positions.confirmed(THERE, "u") == 5
    positions.advance(THERE, "u", 6)
    redis.away = set()
    await positions.flush()
    assert redis.asked == [KEYS.confirmed(HERE), KEYS.confirmed(THERE)]
    assert positions.confirmed(THERE, "u") == 0


async def test_grants_of_a_server_that_is_away_are_not_waited_for() -> None:
    redis = Redis()
    pipeline: Any = redis
    grants = GrantReader(pipeline, KEYS, Stats(), Servers(away=redis.is_away))
    redis.away = {KEYS.grant(THERE)}
    assert await grants.remaining(HERE, "u") == 5.0
    with pytest.raises(Unavailable) as caught:
        await grants.remaining(THERE, "u")
    assert caught.value.retryable


async def test_data_count_as_lost_only_if_their_mark_can_be_read() -> None:
    redis = Redis()
    pipeline: Any = redis
    grants = GrantReader(pipeline, KEYS, Stats(), Servers(away=redis.is_away))
    assert not await grants.lost()
    redis.away = {KEYS.marker}
    assert not await grants.lost()
    redis.away = set()
    # It is back, without its data.
    assert await grants.lost()
