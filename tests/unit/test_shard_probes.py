"""The probes of a cluster's primaries, whose names must be of slots that are theirs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.backplane import hearing
from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.hearing import ShardProbe
from gateway.backplane.pubsub import Confirmed, Handler, ListeningTime
from gateway.node.stats import Stats
from publisher.contract.calls import Call
from publisher.transport.cluster import SLOTS, Cluster, Slots, slot_of
from publisher.transport.redis_py import Connector
from tests.unit.virtual_time import run_at_once

A, B = ("a", 1), ("b", 2)


class Shard:
    """A subscriber of a primary, which refuses the names of other slots than it ``owns``; a published probe is heard."""

    received = 0
    answered = 0

    def __init__(self, owns: set[int]) -> None:
        self.owns = owns
        self.probe: ShardProbe | None = None
        self.listened: list[str] = []
        self._handlers: dict[str, Handler] = {}

    def listen(self, name: str, handler: Handler) -> Confirmed:
        self.listened.append(name)
        assert len(self.listened) < 1_000, "without rests there would be no end"
        confirmed: Confirmed = asyncio.get_running_loop().create_future()
        if slot_of(name) in self.owns:
            self._handlers[name] = handler
            confirmed.set_result(None)
        else:
            confirmed.cancel()
            assert self.probe is not None
            self.probe.renew()
        return confirmed

    def drop(self, name: str) -> None:
        self._handlers.pop(name, None)

    def rebuild(self) -> None:
        raise AssertionError("nothing is wrong with the connection")

    async def call(self, call: Call) -> int:
        name = str(call.arguments[1])
        if call.arguments[0] == "EXISTS":
            return 0
        if name in self._handlers:
            self._handlers[name](b"")
            return 1
        return 0


def probe_of(known: Slots, owns: set[int]) -> tuple[ShardProbe, Shard, ClusterMap]:
    map_ = ClusterMap(Cluster((A,), Connector(object, {}, 1)), lambda: None)
    map_.known.slots = known
    shard = Shard(owns)
    clock = asyncio.get_running_loop().time
    pipeline: Any = shard
    probe = ShardProbe(map_, A, shard, pipeline, "probe", ListeningTime(clock), Stats())
    shard.probe = probe
    return probe, shard, map_


def run(work: Any) -> None:
    run_at_once(work)


def only(slot: int) -> Slots:
    """``A`` owns one slot."""
    return Slots([(0, SLOTS - 1, B), (slot, slot, A)])


@pytest.mark.parametrize("slot", [0, 8_000, SLOTS - 1])
def test_a_primary_with_a_single_slot_is_probed_too(slot: int) -> None:
    async def scenario() -> None:
        probe, shard, _ = probe_of(only(slot), {slot})
        running = asyncio.create_task(probe.run())
        for _ in range(10_000):
            if probe.heard:
                break
            await asyncio.sleep(0.01)
        assert probe.heard
        assert slot_of(shard.listened[-1]) == slot
        running.cancel()

    run(scenario())


def test_a_primary_whose_last_slot_has_gone_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = 0

    def counted(key: bytes) -> int:
        nonlocal tried
        tried += 1
        return hash(key) % SLOTS

    monkeypatch.setattr(hearing, "key_slot", counted)

    async def scenario() -> None:
        probe, _, _ = probe_of(Slots([(0, SLOTS - 1, B)]), set())
        before = tried
        for number in range(3):
            probe._next_name(number)
        assert tried - before <= 3 * (hearing._TAGS_AT_ONCE + 1)

    run(scenario())


def test_the_next_name_of_a_probe_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        probe, _, _ = probe_of(Slots([(0, SLOTS - 1, A)]), set(range(SLOTS)))
        probe._next_name(0)
        tried: list[bytes] = []
        monkeypatch.setattr(hearing, "key_slot", lambda key: tried.append(key) or 0)
        probe._next_name(1)
        assert len(tried) == 1

    run(scenario())


def test_a_probe_whose_name_is_refused_rests_before_the_next() -> None:
    """The map says that the slot is the primary's; the primary says that it is not."""

    async def scenario() -> None:
        probe, shard, _ = probe_of(Slots([(0, SLOTS - 1, A)]), set())
        running = asyncio.create_task(probe.run())
        await asyncio.sleep(10)
        assert 20 < len(shard.listened) <= 101
        assert not probe.heard
        running.cancel()

    run(scenario())


def test_a_probe_whose_slot_has_moved_goes_on_in_another() -> None:
    async def scenario() -> None:
        known = Slots([(0, SLOTS - 1, A)])
        probe, shard, map_ = probe_of(known, set(range(SLOTS)))
        running = asyncio.create_task(probe.run())
        await asyncio.sleep(2)
        slot = slot_of(shard.listened[-1])
        shard.owns.discard(slot)
        map_.refused(A, ResponseError(f"MOVED {slot} b:2"))
        probe.renew()
        before = len(shard.listened)
        await asyncio.sleep(2)
        assert len(shard.listened) > before
        assert slot not in map(slot_of, shard.listened[before:])
        running.cancel()

    run(scenario())


def test_another_connection_is_probed_without_waiting_for_a_server_that_hangs() -> None:
    """The one before led there, and it may be seconds until a call to it fails."""

    async def scenario() -> None:
        slots = set(range(SLOTS))
        probe, shard, _ = probe_of(Slots([(0, SLOTS - 1, A)]), slots)
        call, hangs = shard.call, True

        async def hang(each: Call) -> int:
            if hangs:
                await asyncio.sleep(60)
            return await call(each)

        shard.call = hang  # type: ignore[method-assign]
        running = asyncio.create_task(probe.run())
        await asyncio.sleep(3)
        hangs = False
        probe.recheck()
        await asyncio.sleep(0.1)
        assert probe.heard
        running.cancel()

    run(scenario())
