"""Clients' lines that break without warning, with messages on their way: they come back and miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.faults.plain_client import RECONNECT_DELAY_SECONDS
from tests.faults.proxy import Link
from tests.faults.summary import summary
from tests.faults.world import Load, World
from tests.support.waiting import until

CUTS = 10


async def cut(_w: World, link: Link) -> None:
    """Both ends learn of it at once."""
    link.cut()


async def choke(w: World, link: Link) -> None:
    """Nothing gets through any more, and only then the line breaks: what was sent last is gone."""
    link.down.freeze()
    await asyncio.sleep(w.dice.uniform(0.1, 1))
    link.cut()


async def mute(w: World, link: Link) -> None:
    """The client hears everything and its answers do not arrive: it will get that again."""
    link.up.freeze()
    await asyncio.sleep(w.dice.uniform(0.1, 1))
    link.cut()


async def vanish(_w: World, link: Link) -> None:
    """The node goes on sending to a client that is gone, until no pong comes."""
    link.vanish()


Break = Callable[[World, Link], Awaitable[None]]
BREAKS: list[Break] = [cut, choke, mute, vanish]


@pytest.mark.long
async def test_ten_times_half_of_the_lines_break_and_nothing_is_lost(world: StartWorld) -> None:
    async with world(ping_interval_seconds=2, pong_timeout_seconds=2) as w:
        for number in range(CUTS):
            lines = [w.front.from_port(c.local_port) for c in w.subscribed if c.local_port]
            broken = w.dice.sample(lines, len(lines) // 2)
            how = BREAKS[number % len(BREAKS)]
            await asyncio.gather(*(how(w, line) for line in broken))
            await w.published(w.dice.randrange(20, 60))
        # Places of those who vanished are free when they have not answered for so long.
        await w.everybody_listens(2 * (2 + 2) + 2)
        trace = await w.finish()
        require(trace)
        figures = summary(trace)
        assert figures.breaks > CUTS * 3
        assert figures.repeated > 0


@pytest.mark.long
async def test_users_whose_lines_all_die_without_a_word_are_back_in_seconds(
    world: StartWorld,
) -> None:
    """With pings as far apart as they are by default: it is the users' coming back that finds the dead ones."""
    # Who is in a room is known a minute after their line has died: nobody waits for that here.
    async with world(load=Load(more=False)) as w:
        for _ in range(2):
            await w.published(20)
            for line in list(w.front.links):
                line.vanish()
            await until(lambda: not w.subscribed)
            # Five seconds, and two refusals of those who came when the dead ones were being asked.
            await w.everybody_listens(5 + 3 * RECONNECT_DELAY_SECONDS)
        trace = await w.finish()
        require(trace)
