"""The connections of an event loop to the primaries of a cluster: who shares them, and when they are closed."""

from __future__ import annotations

from publisher.contract.keys import Keys
from publisher.transport.cluster import SLOTS, Cluster, Slots, slot_of
from publisher.transport.loop_cluster import LoopCluster
from publisher.transport.redis_py import Connector

A, B = ("a", 1), ("b", 2)
KEYS = Keys(sharded=True)


async def test_a_channel_with_braces_waits_with_those_of_its_own_primary():
    """Otherwise it would wait for another one, which may be down."""
    channels = [f"run-results/{{{number}}}" for number in range(40)]
    divided = [each for each in channels if primary_of(each) != primary_of(KEYS.log(each))]
    assert divided
    connections = LoopCluster(Cluster((A,), Connector(object, {}, 1)), 5.0, KEYS)
    connections._map.slots = Slots([(0, SLOTS // 2 - 1, A), (SLOTS // 2, SLOTS - 1, B)])
    gathering = {}
    for channel in [*(f"run-results/{number}" for number in range(40)), *divided]:
        gathering.setdefault(primary_of(KEYS.log(channel)), set()).add(
            connections.gathering_of(channel)
        )
    assert [len(each) for each in gathering.values()] == [1, 1]
    assert gathering[A] != gathering[B]


def primary_of(key: str) -> tuple[str, int]:
    return A if slot_of(key) < SLOTS // 2 else B
