"""When a node's lease counts as held, by what Redis answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.backplane.health import NodeEntry, NodeLease
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from tests.unit.virtual_time import run_at_once

LEASE_SECONDS = 10.0


class Redis:
    """Renews leases unless it is away; that it is takes a while to be noticed."""

    def __init__(self) -> None:
        self.away = False
        self.renewals = 0

    async def call(self, _call: Any) -> int:
        if self.away:
            await asyncio.sleep(0.5)
            raise Unavailable("refused", maybe_sent=False)
        self.renewals += 1
        return 1


class Bench:
    def __init__(self, *, of_several: bool, away: bool = False) -> None:
        self.redis = Redis()
        self.redis.away = away
        self.returns = 0
        pipeline: Any = self.redis
        self.lease = NodeLease(
            pipeline,
            NodeEntry(Keys(sharded=of_several), "node", LEASE_SECONDS),
            lambda: "a:1",
            self._note,
            asyncio.get_running_loop().time,
            lambda: 0.5,
            of_several=of_several,
        )
        self.running = asyncio.create_task(self.lease.run())

    def _note(self) -> None:
        self.returns += 1

    async def held_at(self, *moments: float) -> list[bool]:
        """Whether it was held so many seconds after the beginning."""
        found = []
        for moment in moments:
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            found.append(self.lease.held)
        return found


def scenario(*, of_several: bool, away: bool = False) -> Callable[[Callable[[Bench], Any]], None]:
    def run(work: Callable[[Bench], Any]) -> None:
        async def it() -> None:
            bench = Bench(of_several=of_several, away=away)
            try:
                await work(bench)
            finally:
                bench.running.cancel()
                await asyncio.gather(bench.running, return_exceptions=True)

        run_at_once(it())

    return run


def test_on_one_server_it_is_held_while_it_is_renewed() -> None:
    @scenario(of_several=False)
    async def _(bench: Bench) -> None:
        assert await bench.held_at(0.1, 30) == [True, True]
        bench.redis.away = True
        assert await bench.held_at(33, 60) == [False, False]
        bench.redis.away = False
        assert await bench.held_at(62) == [True]
        assert bench.returns == 2


def test_in_a_cluster_it_counts_as_held_while_the_lists_server_is_away() -> None:
    """Nobody can read the list, so nobody thinks the node dead."""

    @scenario(of_several=True)
    async def _(bench: Bench) -> None:
        await bench.held_at(1)
        bench.redis.away = True
        assert all(await bench.held_at(3, 5, 12, 60, 600))
        bench.redis.away = False
        assert await bench.held_at(602) == [True]
        # Its places are looked after once it is back.
        assert bench.returns == 2


def test_a_node_that_starts_meanwhile_waits_for_half_its_lease() -> None:
    """A primary that fails over is back by then; the node is not on the list, and would be thought dead."""

    @scenario(of_several=True, away=True)
    async def _(bench: Bench) -> None:
        assert await bench.held_at(1, 4.9, 6, 600) == [False, False, True, True]
        bench.redis.away = False
        assert await bench.held_at(602) == [True]
        assert bench.returns == 1


def test_a_node_that_starts_during_a_failover_waits_for_its_end() -> None:
    @scenario(of_several=True, away=True)
    async def _(bench: Bench) -> None:
        assert await bench.held_at(1, 2) == [False, False]
        bench.redis.away = False
        assert await bench.held_at(4) == [True]
        bench.redis.away = True
        assert await bench.held_at(7, 60) == [True, True]


@pytest.mark.parametrize("of_several", [False, True])
def test_until_a_recheck_is_answered_it_is_not_held(of_several: bool) -> None:
    @scenario(of_several=of_several)
    async def _(bench: Bench) -> None:
        await bench.held_at(1)
        bench.lease.recheck()
        assert not bench.lease.held
        assert await bench.held_at(1.1) == [True]
        assert bench.returns == 2


@pytest.mark.parametrize("of_several", [False, True])
def test_what_another_server_has_is_looked_after_while_the_lists_is_away(of_several: bool) -> None:
    """A server that comes back may have lost places; that the list is away is no reason to leave them lost."""

    @scenario(of_several=of_several)
    async def _(bench: Bench) -> None:
        await bench.held_at(1)
        bench.redis.away = True
        await bench.held_at(1.1)
        # Before the node knows that the list is away, and when it does.
        for seconds in (3, 20):
            before = bench.returns
            bench.lease.recheck()
            await bench.held_at(seconds)
            assert bench.returns == before + of_several
        before = bench.returns
        await bench.held_at(60)
        assert bench.returns == before
        bench.redis.away = False
        await bench.held_at(62)
        assert bench.returns == before + 1


def test_a_server_that_is_away_is_asked_once_a_second() -> None:
    @scenario(of_several=True, away=True)
    async def _(bench: Bench) -> None:
        calls = 0
        call = bench.redis.call

        async def counted(each: Any) -> int:
            nonlocal calls
            calls += 1
            return await call(each)

        bench.redis.call = counted  # type: ignore[method-assign]
        await bench.held_at(100)
        assert 60 < calls < 110
