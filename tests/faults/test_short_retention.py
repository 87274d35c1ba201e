"""Channels whose log keeps little, and clients that are away: who misses something is told, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from publisher import Retention
from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.faults.proxy import Proxy
from tests.faults.trace import Device
from tests.faults.world import Load
from tests.support.waiting import until

CHANNEL = "run-results/brief"
RATE = 10.0
BREAKS = 4
LONGEST_SECONDS = 2.5


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "kept",
    [
        Retention(max_messages=20, max_age_seconds=86_400),
        pytest.param(Retention(max_messages=10_000, max_age_seconds=2), marks=pytest.mark.long),
    ],
    ids=["by count", "by age"],
)
async def test_losses_are_told_exactly_when_there_are_some(
    world: StartWorld, kept: Retention
) -> None:
    async with world(load=Load({"ann": 1}, more=False)) as w:
        line = Proxy(*w.front.targets)
        await line.start()
        w.trace.short[CHANNEL] = kept
        client = w.add_client(Device("tim", "tim's", (CHANNEL,)), f"ws://127.0.0.1:{line.port}")
        await until(lambda: client.subscribed)
        w.publish(CHANNEL, RATE, 0, keyed=False, retention=kept)
        for number in range(BREAKS):
            await w.published(20)
            line.refuse()
            # By turns so short that nothing can be gone, and so long that something must be.
            await asyncio.sleep(LONGEST_SECONDS if number % 2 else w.dice.uniform(0, 0.1))
            await line.start()
            await until(lambda: client.subscribed, 20.0)
        trace = await w.finish()
        await line.aclose()
        require(trace)
        reports = [report for session in client.device.sessions for report in session.reports]
        assert BREAKS // 2 <= len(reports) < BREAKS
