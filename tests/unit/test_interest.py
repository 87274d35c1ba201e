"""First and last local interest, and the moment between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.node.interest import Interests
from tests.unit.fakes import RecordingFeed, turn

FOR_EVER = 3_600.0


class Bench:
    def __init__(self, linger: float) -> None:
        self.feed = RecordingFeed()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.interests = Interests(self.feed, self.ended.put_nowait, linger)


@pytest.fixture
async def quick() -> AsyncIterator[Bench]:
    """Lingers no longer than to the next turn."""
    yield Bench(0.0)


@pytest.fixture
async def patient() -> AsyncIterator[Bench]:
    bench = Bench(FOR_EVER)
    yield bench
    bench.interests.close()


async def test_the_first_take_subscribes_and_the_next_ones_share_it(patient: Bench) -> None:
    first = patient.interests.take("news/a")
    second = patient.interests.take("news/a")
    await turn()
    assert patient.feed.calls == [("subscribe", "news/a")]
    assert first is second


async def test_a_take_is_done_when_redis_has_confirmed(patient: Bench) -> None:
    taken = patient.interests.take("news/a")
    await turn()
    assert not taken.done()
    patient.feed.confirm.set()
    await taken


async def test_who_takes_later_finds_it_confirmed(patient: Bench) -> None:
    patient.feed.confirm.set()
    await patient.interests.take("news/a")
    assert patient.interests.take("news/a").done()


async def test_channels_are_counted_each_for_itself(quick: Bench) -> None:
    for channel in ("news/a", "news/b"):
        quick.interests.take(channel)
    quick.interests.release("news/a")
    assert await quick.ended.get() == "news/a"
    assert quick.feed.calls[-1] == ("unsubscribe", "news/a")
    assert quick.ended.empty()


async def test_only_the_last_release_ends_the_subscription(quick: Bench) -> None:
    quick.interests.take("news/a")
    quick.interests.take("news/a")
    quick.interests.release("news/a")
    for _ in range(5):
        await turn()
    assert quick.feed.calls == [("subscribe", "news/a")]
    quick.interests.release("news/a")
    assert await quick.ended.get() == "news/a"
    assert quick.feed.calls == [("subscribe", "news/a"), ("unsubscribe", "news/a")]


async def test_the_last_release_lingers(patient: Bench) -> None:
    patient.interests.take("news/a")
    patient.interests.release("news/a")
    for _ in range(5):
        await turn()
    assert ("unsubscribe", "news/a") not in patient.feed.calls
    assert patient.ended.empty()


async def test_a_take_while_it_lingers_costs_nothing(quick: Bench) -> None:
    quick.feed.confirm.set()
    await quick.interests.take("news/a")
    for _ in range(3):
        quick.interests.release("news/a")
        assert quick.interests.take("news/a").done()
    for _ in range(5):
        await turn()
    assert quick.feed.calls == [("subscribe", "news/a")]
    assert quick.ended.empty()


async def test_a_take_after_the_end_subscribes_anew(quick: Bench) -> None:
    quick.interests.take("news/a")
    await turn()
    quick.interests.release("news/a")
    await quick.ended.get()
    quick.interests.take("news/a")
    await turn()
    assert [call for call, _ in quick.feed.calls] == ["subscribe", "unsubscribe", "subscribe"]


async def test_an_end_before_redis_has_confirmed_gives_up_waiting(quick: Bench) -> None:
    taken = quick.interests.take("news/a")
    await turn()
    quick.interests.release("news/a")
    await quick.ended.get()
    await asyncio.wait([taken])
    assert taken.cancelled()


async def test_closing_ends_what_lingers_without_a_word_to_redis(
    quick: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    quick.feed.confirm.set()
    await quick.interests.take("news/a")
    quick.interests.release("news/a")
    quick.interests.close()
    for _ in range(5):
        await turn()
    assert quick.feed.calls == [("subscribe", "news/a")]
    assert quick.ended.empty()
    assert not caplog.records
