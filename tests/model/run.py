"""One run of the model: everything at random for some seconds, and then what must hold of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from pathlib import Path
from typing import Final

from tests.model.faults import faults_here
from tests.model.record import Record
from tests.model.rules import in_the_end, missing, never_arrived, still_there
from tests.model.steps import USERS_STEPS, Publishing, Stopping, backend
from tests.model.visitors import token_of
from tests.model.world import EVERY_CHANNEL, TENANTS, USERS, World, running_world
from tests.support.waiting import until

_OVERTIME_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 20.0
_LAST_SECONDS: Final = 60.0
_PUBLISHERS: Final = 3


async def run(folder: Path, start: int, seconds: float) -> Record:
    """Let everybody act for so many seconds, and wait until all that is due has come."""
    record = Record()
    async with (
        asyncio.timeout(seconds + _OVERTIME_SECONDS),
        running_world(folder, record, random.Random(start)) as world,
    ):
        stopping, publishing = Stopping(), Publishing()
        publish = [(1.0, publishing.publish)]
        acting = [
            stopping.go_on(world, USERS_STEPS, (0, 0.05), start + 1),
            stopping.go_on(world, faults_here(), (0.5, 3), start + 2),
            *(
                stopping.go_on(world, backend(tenant), (0.05, 0.4), start + 3 + number)
                for number, tenant in enumerate(TENANTS)
            ),
            *(
                stopping.go_on(world, publish, (0.005, 0.03), start + 100 + number)
                for number in range(_PUBLISHERS)
            ),
        ]
        async with asyncio.TaskGroup() as tasks:
            for each in acting:
                tasks.create_task(each)
            await asyncio.sleep(seconds)
            stopping.stop()
        await _settle(world)
        record.over = world.now()
    return record


async def _settle(world: World) -> None:
    """Everybody comes once more and asks for all that is theirs; return when it has come, or will not."""
    await world.all_ready()
    now = world.now()
    for user in USERS:
        one = await world.connect(token_of(world.record, user, (), _LAST_SECONDS))
        if one is None:
            continue
        for channel in EVERY_CHANNEL:
            if world.record.ways.surely(one.visit.holders, channel, now, now + _SETTLE_SECONDS):
                await one.subscribe(channel)
    with contextlib.suppress(TimeoutError):
        await until(lambda: _is_settled(world), _SETTLE_SECONDS)
    for one in world.here:
        one.visit.odd += [f"got no answer about {channel}" for channel in one.pending]


def _is_settled(world: World) -> bool:
    record = world.record
    record.over = world.now()
    return (
        not any(each.pending for each in world.here)
        and not any(
            missing(record, visit, session)
            for visit in record.visits
            if visit.ended == math.inf
            for session in visit.sessions
            if session.ended == math.inf and record.keeps_log(session.channel)
        )
        and not any(never_arrived(record, *each) for each in in_the_end(record))
        and not any(True for visit in record.visits for _ in still_there(record, visit))
    )
