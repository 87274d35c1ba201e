"""Releases of places at several servers: one that does not answer holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.backplane.place_releases import Releases
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.servers import Servers
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from tests.unit.virtual_time import run_at_once

HERE, THERE = "here", "there"


class Redis:
    """Two servers; a user's name begins with the one that has their places, unless these have ``moved``."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.hanging: set[str] = set()
        self.moved = False
        self.asked: list[str] = []
        self.waiting: list[asyncio.Future[Any]] = []

    def server_of(self, key: str) -> str:
        return THERE if THERE in key and not self.moved else HERE

    def begin(self, call: Call) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        server = self.server_of(str(call.key))
        self.asked.append(server)
        if server in self.hanging:
            self.waiting.append(answer)
        elif server in self.away:
            answer.set_exception(Unavailable("refused", maybe_sent=False))
        else:
            answer.set_result(1)
        return answer

    def time_out(self) -> None:
        for answer in self.waiting:
            answer.set_exception(Unavailable("no answer in time", maybe_sent=True))
        self.waiting.clear()


class Bench:
    def __init__(self) -> None:
        self.redis = Redis()
        pipeline: Any = self.redis
        table = PlaceTable(Keys(sharded=True), "node", 5, 60)
        self.releases = Releases(pipeline, table.release, Servers(self.redis.server_of))

    async def release(self, *users: str) -> None:
        """Release a place of each, whose connection has the user's name, and let what answers answer."""
        for user in users:
            self.releases.release(user, user)
        await soon()

    def left(self, *users: str) -> list[str]:
        """Those of them whose places are still unreleased."""
        return [user for user in users if user in self.releases]


async def soon() -> None:
    """Less than until anything is tried again."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.releases.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def at_once(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def scenario() -> None:
            bench = Bench()
            async with running(bench):
                await test(bench)

        run_at_once(scenario())

    run.__name__ = test.__name__
    return run


@at_once
async def test_while_a_server_is_away_places_at_the_others_are_released_at_once(
    bench: Bench,
) -> None:
    bench.redis.away = {THERE}
    await bench.release("there-1")
    # Also after it was tried again in vain.
    for _ in range(3):
        await bench.release("here-1")
        assert bench.left("here-1", "there-1") == ["there-1"]
        await asyncio.sleep(3)


@at_once
async def test_a_server_that_is_away_is_asked_every_few_seconds_and_at_once_when_it_is_back(
    bench: Bench,
) -> None:
    bench.redis.away = {THERE}
    await bench.release("there-1")
    await bench.release("there-2")
    assert bench.redis.asked == [THERE]
    await asyncio.sleep(4)
    assert bench.redis.asked == 3 * [THERE]
    bench.redis.away = set()
    bench.releases.hurry()
    await soon()
    assert not bench.releases
    await bench.release("there-3")
    assert not bench.releases


@at_once
async def test_what_is_tried_again_at_one_server_does_not_wait_for_another_that_hangs(
    bench: Bench,
) -> None:
    users = [f"here-{number}" for number in range(500)]
    bench.redis.away, bench.redis.hanging = {HERE}, {THERE}
    await bench.release("there-1", *users)
    bench.redis.away = set()
    again = asyncio.create_task(bench.releases.release_all())
    await soon()
    assert bench.left("there-1", *users) == ["there-1"]
    assert not again.done()
    bench.redis.time_out()
    with pytest.raises(Unavailable):
        await again
    assert bench.left("there-1") == ["there-1"]


@at_once
async def test_places_whose_slot_has_moved_are_released_where_it_is(bench: Bench) -> None:
    bench.redis.away = {THERE}
    await bench.release("there-1")
    bench.redis.moved = True
    await bench.release("there-2")
    assert bench.left("there-1", "there-2") == ["there-1"]
    bench.releases.hurry()
    await soon()
    assert not bench.releases
