"""What the log says while Redis is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from gateway.backplane.health import NodeEntry, NodeLease
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.redis_py import Connector, asyncio_client
from tests.unit.fakes import FakeClock

SECONDS_A_CALL = 35


class AwayAndBack:
    """A Redis that refuses so many calls, and answers the next ones."""

    def __init__(self, clock: FakeClock, refusals: int) -> None:
        self._clock = clock
        self._refusals = refusals
        self.answered = asyncio.Event()

    async def call(self, _call: Any) -> int:
        self._clock.now += SECONDS_A_CALL
        self._refusals -= 1
        if self._refusals >= 0:
            raise Unavailable("Connection refused", maybe_sent=False)
        self.answered.set()
        return 1


async def until_answered(lease: NodeLease, redis: AwayAndBack | MovesAway) -> None:
    """Let the lease be renewed until Redis has answered once."""
    running = asyncio.create_task(lease.run())
    async with asyncio.timeout(10):
        await redis.answered.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_it_is_told_at_once_and_again_each_minute_until_redis_is_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    redis: Any = AwayAndBack(clock, refusals=5)
    entry = NodeEntry(Keys("rt1"), "node", 10)
    lease = NodeLease(redis, entry, lambda: "localhost:6379", lambda: None, clock, lambda: 0.0)
    await until_answered(lease, redis)
    waiting = "waiting_for_redis address=localhost:6379 reason=Connection refused"
    # At 0, 70 and 140 seconds, of calls at 0, 35, 70, 105 and 140.
    assert caplog.messages == [waiting] * 3 + ["redis_reached address=localhost:6379"]


class MovesAway:
    """A server that fails its first call, while another one takes over; that one answers."""

    def __init__(self) -> None:
        self.address = "a:1"
        self.answered = asyncio.Event()

    async def call(self, _call: Any) -> int:
        if self.address == "a:1":
            self.address = "b:2"
            raise Unavailable("no answer in time", maybe_sent=True)
        self.answered.set()
        return 1


async def test_the_server_is_named_that_was_asked_in_vain_and_then_the_one_that_has_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    redis: Any = MovesAway()
    entry = NodeEntry(Keys("rt1"), "node", 10)
    lease = NodeLease(
        redis, entry, lambda: str(redis.address), lambda: None, FakeClock(), lambda: 0.0
    )
    await until_answered(lease, redis)
    assert caplog.messages == [
        "waiting_for_redis address=a:1 reason=no answer in time",
        "redis_reached address=b:2",
    ]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:secret@redis.example.org:7000/3", "redis.example.org:7000"),
        ("rediss://:secret@redis.example.org", "redis.example.org:6379"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_an_address_names_the_place_and_nothing_secret(url: str, address: str) -> None:
    assert Connector.of(asyncio_client(url)).address == address
