"""Each fault that the stress program knows, by itself: what holds of all of them holds of each."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from tests.faults import process_faults, sentinel_faults
from tests.faults.allowance import STRICT
from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.faults.mayhem import ALLOWED, OTHER_FAULTS, REDIS_FAULTS, SETTINGS, Fault
from tests.faults.turns import CUTTING, turns
from tests.faults.world import Load
from tests.support import topology

SECONDS = 4.0
"""Long enough that a node has to notice a Redis that does not serve it."""
SHORT_SECONDS = 1.0

HERE = topology.chosen()
# What happens to nodes and lines by themselves is the same on each topology.
NAMED = REDIS_FAULTS[HERE] + (OTHER_FAULTS if HERE == topology.SINGLE else [])
# One of each kind; `make test-all` has the others, and throws dice for all of them.
QUICK = {
    *("redis_killed", "redis_hangs", "redis_fails_over_and_loses_writes"),
    *("pubsub_goes_silent", "publishers_lose_their_replies"),
    *("node_killed", "node_frozen", "publisher_killed"),
    "lines_break",
}
# A replica may take over before any node has to notice.
PERHAPS_UNNOTICED = {sentinel_faults.primary_killed, sentinel_faults.primary_hangs}
# The process that publishes is part of the wider load.
OF_THE_PROCESS = {process_faults.publisher_frozen, process_faults.publisher_killed}


def named(fault: Fault) -> ParameterSet:
    marks = () if fault.__name__ in QUICK else pytest.mark.long
    return pytest.param(fault, id=fault.__name__, marks=marks)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", [*map(named, NAMED)])
async def test_a_fault_loses_nothing_and_is_over_when_it_is_over(
    world: StartWorld, fault: Fault
) -> None:
    cutting = fault.__name__ in CUTTING
    replicated = "fails_over" in fault.__name__
    load = Load(more=True) if fault in OF_THE_PROCESS else None
    async with world(replicated=replicated, load=load, **SETTINGS) as w:
        await w.published(10)
        await fault(w, w.dice, SECONDS if cutting else SHORT_SECONDS)
        await w.published(20)
        await w.everybody_listens()
        trace = await w.finish()
        require(trace, ALLOWED if trace.losses else STRICT)
        assert {each.name for each in trace.occurrences} == {fault.__name__}
        measured = turns(trace)
        if fault not in PERHAPS_UNNOTICED:
            assert bool(measured.unready) == cutting
