"""What waits until the budget of its connection bears it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core import budget
from gateway.core.budget import Budget
from gateway.node.pacing import Pacing
from gateway.node.stats import Stats
from tests.unit.fakes import FakeClock, make_connection

sleep = asyncio.sleep


class Bench:
    """A connection whose budget is exhausted, and what waits for it; sleeping moves the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.stats = Stats()
        self.pacing = Pacing(self.clock, self.stats)
        self.client, _ = make_connection()
        self.client.budget = Budget(100, 1_000, 0, self.clock())
        assert self.client.budget.take(1_000, self.clock())
        self.client.budget.owe(budget.SUBSCRIBE)
        self.done: list[int] = []
        self.sleeps = 0
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        due = self.clock.now + max(seconds, 1e-6)  # no sleep is shorter
        await sleep(0)
        self.clock.now = max(self.clock.now, due)

    async def ask(self, number: int) -> None:
        await self.pacing.ready(self.client)
        self.client.budget.owe(budget.SUBSCRIBE)
        self.done.append(number)

    def ask_all(self, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.ask(number)) for number in range(count)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_a_hundred_that_wait_go_on_in_their_order_and_do_not_wake_each_other(
    bench: Bench,
) -> None:
    await asyncio.gather(*bench.ask_all(100))
    assert bench.done == list(range(100))
    assert bench.sleeps <= 3 * 100
    assert bench.stats.requests_delayed == 100


async def test_one_that_is_given_up_lets_the_next_go_on(bench: Bench) -> None:
    waiting = bench.ask_all(3)
    await sleep(0)
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait(waiting)
    assert bench.done == [2]
