"""All clients come back at once, several tabs of each user, while backends publish: nobody is told of a loss."""

from __future__ import annotations

import pytest

from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.faults.process_faults import everybody_reconnects
from tests.faults.world import Load

STORMS = 6
TABS = 5
USERS = 20


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_storm_of_tabs_invents_no_loss(world: StartWorld) -> None:
    load = Load({f"user-{number}": TABS for number in range(USERS)}, rate=8.0, more=False)
    async with world(load=load) as w:
        for _ in range(STORMS):
            await w.published(100)
            await everybody_reconnects(w, w.dice, 0)
            await w.everybody_listens()
        trace = await w.finish()
        require(trace)
        assert sum(len(device.sessions) for device in trace.devices) == (STORMS + 1) * USERS * TABS
