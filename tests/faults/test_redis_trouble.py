"""Redis killed, emptied, hung, out of reach, cutting off subscribers: nobody loses a message unknowingly."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import StartWorld
from tests.faults.invariants import violations

KILLS = 10


@pytest.mark.timeout(120)
async def test_ten_kills_of_redis_lose_nothing(world: StartWorld) -> None:
    async with world() as w:
        for _ in range(KILLS):
            async with w.outage():
                w.server.kill()
                await asyncio.sleep(w.dice.uniform(0, 0.5))
                await asyncio.to_thread(w.server.restart)
            await w.published(20)
        trace = await w.finish()
        assert violations(trace) == []
        assert all(len(device.sessions) == 1 for device in trace.devices if device.user != "fay")
