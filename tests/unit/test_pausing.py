"""Pauses grow, differ between nodes, and stay short enough; others can be cut short."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.timing import Backoff
from gateway.node.tasks import Pause


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_double_up_to_a_second_and_are_jittered_down_to_half(
    jitter: float, factor: float
) -> None:
    backoff = Backoff(lambda: jitter)
    pauses = [backoff.next() / factor for _ in range(7)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_after_a_success_they_begin_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


async def test_a_pause_can_be_cut_short_once() -> None:
    pause = Pause()
    sleeping = asyncio.create_task(pause(60))
    await asyncio.sleep(0)
    pause.cut()
    async with asyncio.timeout(5):
        await sleeping
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pause(60)


async def test_a_pause_that_was_cut_before_it_began_does_not_last() -> None:
    pause = Pause()
    pause.cut()
    async with asyncio.timeout(5):
        await pause(60)


async def test_a_pause_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await Pause()(0.001)
