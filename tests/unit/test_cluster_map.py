"""When a node asks a cluster for its map, and when it follows another one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.backplane.cluster_map import ClusterMap
from publisher.errors import Unavailable
from publisher.transport.cluster import SLOTS, Cluster, Slots
from publisher.transport.redis_py import Connector, Host
from tests.unit.virtual_time import run_at_once

A, B, C = ("a", 1), ("b", 2), ("c", 3)


class Bench:
    """A node's map of three primaries, of which those in ``dead`` do not answer."""

    def __init__(self) -> None:
        self.slots = Slots([(0, 5_000, A), (5_001, 9_999, B), (10_000, SLOTS - 1, C)])
        self.asked: list[Host] = []
        self.dead: set[Host] = set()
        self.told: list[float] = []
        self.map = ClusterMap(Cluster((A,), Connector(object, {}, 1)), self._note)
        self.map._ask = self._ask  # type: ignore[method-assign]
        self.silent: list[Host] = []
        self.running = asyncio.create_task(self.map.run(lambda: self.silent))

    def _note(self) -> None:
        self.told.append(asyncio.get_running_loop().time())

    async def _ask(self, host: Host) -> Slots:
        self.asked.append(host)
        await asyncio.sleep(0.001)
        if host in self.dead:
            raise Unavailable("refused", maybe_sent=False)
        return self.slots.copy()

    def hear(self, to: Host) -> None:
        self.map.known.hear(ResponseError(f"MOVED 7 {to[0]}:{to[1]}"), A)

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


def test_a_map_is_told_once_and_a_change_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(5)
        assert len(bench.told) == 1
        bench.hear(B)
        bench.slots.move(7, B)
        await asyncio.sleep(0.001)
        assert len(bench.told) == 2
        await asyncio.sleep(5)
        assert len(bench.told) == 2
        await bench.end()

    run_at_once(scenario())


def test_changes_that_come_one_after_the_other_are_told_at_rest() -> None:
    """Two servers lead to each other, and each call brings both answers."""

    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.told.clear()
        for number in range(1_000):
            bench.hear((A, B)[number % 2])
            await asyncio.sleep(0.001)
        assert 10 < len(bench.told) <= 55
        await bench.end()

    run_at_once(scenario())


def test_nothing_is_told_once_nobody_follows_and_all_at_the_next_beginning() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.told.clear()
        bench.hear(B)
        await bench.end()
        bench.hear(C)
        await asyncio.sleep(1)
        assert bench.told == []
        bench.running = asyncio.create_task(bench.map.run(lambda: ()))
        await asyncio.sleep(0.01)
        assert len(bench.told) == 1
        await bench.end()

    run_at_once(scenario())


def test_while_a_primary_is_silent_the_map_is_asked_for_once_a_second_and_not_of_it() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.asked.clear()
        bench.silent, bench.dead = [A], {A}
        await asyncio.sleep(1)
        assert 3 <= len(bench.asked) <= 5
        await asyncio.sleep(30)
        assert 25 <= len(bench.asked) <= 36
        assert bench.asked.count(A) <= 1
        await bench.end()

    run_at_once(scenario())


def test_whoever_takes_over_from_a_silent_primary_is_known_within_a_second() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.silent, bench.dead = [A], {A}
        for _ in range(5):
            await asyncio.sleep(10.37)
            told = len(bench.told)
            bench.slots.move(7, C if bench.slots.owner(7) == B else B)
            await asyncio.sleep(1.15)
            assert len(bench.told) == told + 1
        await bench.end()

    run_at_once(scenario())


def test_while_one_primary_is_silent_another_that_falls_silent_is_asked_about_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.silent, bench.dead = [A], {A}
        await asyncio.sleep(10)
        bench.asked.clear()
        bench.silent, bench.dead = [A, B], {A, B}
        await asyncio.sleep(0.25)
        assert bench.asked
        await bench.end()

    run_at_once(scenario())


@pytest.mark.parametrize("silent", [A, B, C])
def test_while_a_primary_is_silent_what_any_will_do_is_asked_of_another(silent: Host) -> None:
    """Also just after another one has told its map, which proves nothing of this one."""

    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.silent, bench.dead = [silent], {silent}
        await asyncio.sleep(0.15)
        for _ in range(200):
            assert bench.map.any_primary() != silent
            await asyncio.sleep(0.013)
        bench.silent, bench.dead = [], set()
        await asyncio.sleep(2)
        assert bench.map.any_primary() == A
        await bench.end()

    run_at_once(scenario())


def test_all_that_are_asked_in_vain_are_asked_at_rest() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.dead = {A, B, C}
        await asyncio.sleep(10)
        assert 50 < len(bench.asked) <= 101
        bench.dead = set()
        await asyncio.sleep(0.2)
        assert bench.told
        await bench.end()

    run_at_once(scenario())


def test_a_doubt_that_comes_while_the_map_is_on_its_way_is_not_forgotten() -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        bench.asked.clear()
        bench.map.known.doubt()
        asking = asyncio.create_task(bench.map.learn())
        await asyncio.sleep(0)
        bench.hear(B)
        await asking
        await asyncio.sleep(0.3)
        assert len(bench.asked) >= 2
        await bench.end()

    run_at_once(scenario())


def test_slots_that_move_one_after_the_other_are_not_logged_each(caplog: Any) -> None:
    async def scenario() -> None:
        bench = Bench()
        await asyncio.sleep(1)
        for slot in range(100):
            bench.slots.move(slot, B)
            bench.map.known.doubt()
            await asyncio.sleep(0.11)
        assert "redis_cluster_changed" not in caplog.text
        for slot in range(SLOTS):
            if bench.slots.owner(slot) == A:
                bench.slots.move(slot, B)
        bench.map.known.doubt()
        await asyncio.sleep(0.3)
        assert caplog.text.count("redis_cluster_changed primaries=b:2,c:3") == 1
        await bench.end()

    run_at_once(scenario())
