"""The connections of an event loop to the primaries of a cluster: who shares them, and when they are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.cluster import SLOTS, Cluster, Slots, slot_of
from publisher.transport.flows import RoundTrip
from publisher.transport.loop_cluster import LoopCluster
from publisher.transport.redis_py import Connector, Host
from publisher.transport.topology import asyncio_topology
from tests.support.scripted_servers import ScriptedServer, two_servers
from tests.support.waiting import until

A, B = ("a", 1), ("b", 2)
KEYS = Keys(sharded=True)
LONG = 60.0
"""Seconds that a round trip may take here."""

LOWER = next(f"k{number}" for number in range(99) if slot_of(f"k{number}") < SLOTS // 2)
"""A key of the first of two servers."""


def primary_of(key: str) -> Host:
    return A if slot_of(key) < SLOTS // 2 else B


async def test_a_channel_with_braces_waits_with_those_of_its_own_primary():
    """Otherwise it would wait for another one, which may be down."""
    channels = [f"run-results/{{{number}}}" for number in range(40)]
    divided = [each for each in channels if primary_of(each) != primary_of(KEYS.log(each))]
    assert divided
    connections = LoopCluster(Cluster((A,), Connector(object, {}, 1)), LONG, KEYS)
    connections._map.slots = Slots([(0, SLOTS // 2 - 1, A), (SLOTS // 2, SLOTS - 1, B)])
    gatherings: dict[Host, set[Any]] = {A: set(), B: set()}
    for channel in [*(f"run-results/{number}" for number in range(40)), *divided]:
        gatherings[primary_of(KEYS.log(channel))].add(connections.gathering_of(channel))
    assert [len(each) for each in gatherings.values()] == [1, 1]
    assert gatherings[A] != gatherings[B]


class UnderWay:
    """A call that the first of two servers has heard and has not answered; then its slots are the other one's."""

    def __init__(self, first: ScriptedServer, second: ScriptedServer) -> None:
        self._first, self._second = first, second
        self.answering = asyncio.Event()
        first.answer = lambda _command, _asking: self._late()
        topology = asyncio_topology(f"redis+cluster://127.0.0.1:{second.host[1]}")
        made = topology.connections_for_loop(LONG, KEYS)
        assert isinstance(made, LoopCluster)
        self.connections = made
        step = RoundTrip([Call(("GET", LOWER))])
        self.call = asyncio.create_task(made.take(step))

    async def _late(self) -> bytes:
        await self.answering.wait()
        return b"+late\r\n"

    async def lose_slots(self, *, failed: bool) -> None:
        await until(lambda: self._first.heard)
        known = self.connections._map
        if failed:
            known.doubt(self._first.host)
        # As another server tells it: this one may be about to answer the call.
        known._learn(Slots([(0, SLOTS - 1, self._second.host)]))
        assert self._first.host not in self.connections._servers
        # Whatever is closed at once is closed by then.
        await self.connections.take(RoundTrip([Call(("TIME",))]))


@pytest.fixture
async def under_way() -> AsyncIterator[UnderWay]:
    async with two_servers() as servers:
        made = UnderWay(*servers)
        yield made
        made.answering.set()
        await made.connections.aclose()
        await asyncio.gather(made.call, return_exceptions=True)


async def test_a_primary_that_has_given_its_last_slot_away_still_answers_what_it_was_sent(
    under_way: UnderWay,
):
    await under_way.lose_slots(failed=False)
    under_way.answering.set()
    assert await under_way.call == [b"late"]


async def test_what_is_under_way_at_one_that_has_failed_is_tried_again_elsewhere(
    under_way: UnderWay,
):
    await under_way.lose_slots(failed=True)
    with pytest.raises(Unavailable):
        await under_way.call


async def test_connections_that_are_to_be_left_end_with_the_others(under_way: UnderWay):
    await under_way.lose_slots(failed=False)
    await under_way.connections.aclose()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(under_way.call, 5.0)
