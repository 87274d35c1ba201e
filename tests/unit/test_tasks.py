"""An owner for tasks, and sleeps that can be ended."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from gateway.node.tasks import Sleep, Tasks
from tests.unit.fakes import turn


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_task_is_kept_alive_though_nobody_else_holds_it() -> None:
    tasks = Tasks()
    go, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    tasks.spawn(work(), "work")
    await turn()
    gc.collect()
    go.set()
    await asyncio.wait_for(done.wait(), 5)


async def test_a_task_that_ends_is_forgotten() -> None:
    tasks = Tasks()
    await tasks.spawn(turn(), "work")
    await turn()
    assert not tasks._tasks


async def test_what_kills_a_task_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError("broken")

    tasks = Tasks()
    task = tasks.spawn(broken(), "the broken one")
    await asyncio.wait([task])
    await turn()
    [record] = caplog.records
    assert "the broken one" in record.getMessage()
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert not tasks._tasks


async def test_a_task_that_is_cancelled_is_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    task = tasks.spawn(for_ever(), "work")
    await turn()
    task.cancel()
    await asyncio.wait([task])
    await turn()
    assert not caplog.records
    assert not tasks._tasks


async def test_closing_cancels_what_runs_and_waits_for_its_end() -> None:
    tasks = Tasks()
    ended = []

    async def work() -> None:
        try:
            await for_ever()
        finally:
            await turn()
            ended.append(True)

    for _ in range(3):
        tasks.spawn(work(), "work")
    await turn()
    await tasks.aclose()
    await turn()
    assert ended == [True] * 3
    assert not tasks._tasks


async def test_closing_gives_what_runs_the_time_it_was_told_to() -> None:
    tasks = Tasks()
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    task = tasks.spawn(work(), "work")
    await turn()
    asyncio.get_running_loop().call_soon(go.set)
    await tasks.aclose(patience=60)
    assert task.done()
    assert not task.cancelled()


async def test_closing_cancels_what_outlasts_its_patience() -> None:
    tasks = Tasks()
    task = tasks.spawn(for_ever(), "work")
    await tasks.aclose(patience=0.001)
    assert task.cancelled()


async def test_closing_without_tasks_returns_at_once() -> None:
    await Tasks().aclose(patience=60)


async def test_a_sleep_can_be_ended_once() -> None:
    sleep = Sleep()
    sleeping = asyncio.create_task(sleep(60))
    await turn()
    sleep.end()
    async with asyncio.timeout(5):
        await sleeping
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sleep(60)


async def test_a_sleep_that_was_ended_before_it_began_does_not_last() -> None:
    sleep = Sleep()
    sleep.end()
    async with asyncio.timeout(5):
        await sleep(60)


async def test_a_sleep_ends_by_itself() -> None:
    async with asyncio.timeout(5):
        await Sleep()(0.001)
