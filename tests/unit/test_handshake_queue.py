"""More handshakes than a node lets in at once: who comes in, in which order, and who does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.node.stats import Stats
from gateway.web.handshake_queue import LONGEST_SECONDS, HandshakeQueue
from tests.unit.virtual_time import run_at_once

RATE = 100.0


class Door:
    """A queue, and what becomes of those who wait in it."""

    def __init__(self, rate: float = RATE) -> None:
        self.open = True
        self.stats = Stats()
        self.let_in: list[tuple[int, float]] = []
        self.turned_away: list[tuple[int, float]] = []
        self.asking: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.queue = HandshakeQueue(rate, lambda: self.open, self.stats, self._loop.time)

    def come(self, number: int, waits: Callable[[], bool] = lambda: True) -> asyncio.Task[None]:
        task = asyncio.create_task(self._come(number, waits))
        self.asking.add(task)
        return task

    async def _come(self, number: int, waits: Callable[[], bool]) -> None:
        has_turn = await self.queue.turn(waits)
        (self.let_in if has_turn else self.turned_away).append((number, self._loop.time()))

    async def all_told(self) -> None:
        await asyncio.gather(*self.asking, return_exceptions=True)
        assert self.stats.handshakes_waiting == 0

    @property
    def order(self) -> list[int]:
        return [number for number, _ in self.let_in]


def test_three_times_the_rate_for_five_seconds_all_come_in_within_15_s_in_the_order_they_came() -> (
    None
):
    async def rush() -> None:
        door = Door()
        came = {}
        loop = asyncio.get_running_loop()
        for number in range(int(3 * RATE * 5)):
            came[number] = loop.time()
            door.come(number)
            await asyncio.sleep(1 / (3 * RATE))
        await door.all_told()
        assert door.turned_away == []
        assert door.order == list(range(int(3 * RATE * 5)))
        assert max(at - came[number] for number, at in door.let_in) <= LONGEST_SECONDS
        # Never more than the rate, beyond what may go at once.
        times = [at for _, at in door.let_in]
        for at in range(len(times)):
            within = sum(1 for each in times if times[at] <= each < times[at] + 1)
            assert within <= RATE + RATE / 10 + 1

    run_at_once(rush())


def test_below_the_rate_nobody_waits() -> None:
    async def trickle() -> None:
        door = Door()
        for number in range(200):
            await door.come(number)
            assert door.stats.handshakes_waiting == 0
            await asyncio.sleep(1 / RATE)
        assert door.queue._timer is None

    run_at_once(trickle())


def test_only_as_many_wait_as_have_their_turns_within_15_s_and_the_rest_is_told_at_once() -> None:
    async def crowd() -> None:
        door = Door()
        many = int(RATE * LONGEST_SECONDS)
        for number in range(many + 100):
            door.come(number)
        await asyncio.sleep(0)
        at_once = int(RATE / 10)
        assert [at for _, at in door.turned_away] == [0.0] * (100 - at_once)
        assert door.stats.handshakes_waiting == many
        await door.all_told()
        assert len(door.let_in) == many + at_once
        assert door.let_in[-1][1] <= LONGEST_SECONDS + 0.01

    run_at_once(crowd())


def test_who_has_gone_takes_no_turn() -> None:
    async def leave() -> None:
        door = Door(rate=1.0)
        door.come(0)
        for number in range(1, 11):
            door.come(number, lambda: False)
        door.come(11)
        cancelled = door.come(12)
        door.come(13)
        await asyncio.sleep(0)
        cancelled.cancel()
        await door.all_told()
        assert door.order == [0, 11, 13]
        assert door.let_in[-1][1] == pytest.approx(2.0, abs=0.51)
        assert [number for number, _ in door.turned_away] == list(range(1, 11))

    run_at_once(leave())


def test_a_node_that_lets_nobody_in_any_more_keeps_nobody_waiting() -> None:
    async def drain() -> None:
        door = Door(rate=0.1)
        door.queue._most = 100
        for number in range(20):
            door.come(number)
        await asyncio.sleep(0)
        assert door.stats.handshakes_waiting == 19
        door.open = False
        await door.all_told()
        assert door.order == [0]
        assert max(at for _, at in door.turned_away) <= 0.5

    run_at_once(drain())


def test_who_would_wait_for_longer_because_the_node_stood_still_is_told_so() -> None:
    async def stand_still() -> None:
        door = Door(rate=1.0)
        for number in range(15):
            door.come(number)
        await asyncio.sleep(0)
        door.queue._clock = lambda: 16.0
        await door.all_told()
        assert door.order == [0]

    run_at_once(stand_still())
