"""Gateways killed, frozen and told to leave: their clients go elsewhere and miss nothing, the limit stands."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.faults.allowance import Allowance
from tests.faults.conftest import StartWorld
from tests.faults.invariants import MAX_CONNECTIONS, NODE_LEASE_SECONDS, require, too_many
from tests.faults.plain_client import RECONNECT_DELAY_SECONDS
from tests.faults.trace import Device
from tests.faults.world import EVERYBODY, Load, World
from tests.support.waiting import until

KILLS = 10
AT_ONCE_SECONDS = 0.5
MARGIN_SECONDS = 1.5
"""For processes to be scheduled on a busy machine."""


@pytest.mark.long
@pytest.mark.timeout(150)
async def test_ten_kills_lose_nothing_and_keep_the_limit(world: StartWorld) -> None:
    async with world() as w:
        for _ in range(KILLS):
            node = w.dice.choice(w.nodes)
            await node.kill()
            await asyncio.sleep(w.dice.uniform(0, 1))
            await node.start()
            await w.published(20)
        await w.everybody_listens(NODE_LEASE_SECONDS + MARGIN_SECONDS)
        trace = await w.finish()
        require(trace)
        assert sum(len(device.sessions) for device in trace.devices) > w.expected + KILLS


async def test_a_kill_frees_the_users_places_within_the_nodes_lease(world: StartWorld) -> None:
    async with world(load=Load({"fay": MAX_CONNECTIONS, "ann": 1})) as w:
        killed = w.nodes[0]
        await killed.kill()
        begun = time.monotonic()
        await until(lambda: len(w.listening) < w.expected)
        await w.everybody_listens(NODE_LEASE_SECONDS + RECONNECT_DELAY_SECONDS + MARGIN_SECONDS)
        assert time.monotonic() - begun > RECONNECT_DELAY_SECONDS
        require(await w.finish())


@pytest.mark.long
async def test_a_node_frozen_beyond_its_lease_takes_part_again(world: StartWorld) -> None:
    async with world(load=Load({"ann": 1, "ben": 1, "fay": MAX_CONNECTIONS})) as w:
        frozen, living = w.nodes
        channels = ("notifications/fay", EVERYBODY)
        w.add_client(Device("fay", "fay's spare", channels), living.url)
        async with w.outage():
            frozen.freeze()
            await asyncio.sleep(NODE_LEASE_SECONDS + w.dice.uniform(2, 4))
            frozen.thaw()
            thawed_at = time.monotonic()
            await frozen.turns_ready(3.0)
        await until(lambda: now_open(w, "fay") <= MAX_CONNECTIONS, 5.0)
        await w.published(20)
        await w.everybody_listens()
        trace = await w.finish()
        allowed = Allowance(limit_seconds=NODE_LEASE_SECONDS, evictions=True)
        require(trace, allowed)
        # The frozen node's places went to others, and it learned that on waking up.
        spells = too_many(trace, "fay")
        assert spells
        assert all(begin < thawed_at < end < thawed_at + 5 for begin, end in spells)


def now_open(w: World, user: str) -> int:
    devices = [device for device in w.trace.devices if device.user == user]
    return sum(session.ended_at is None for device in devices for session in device.sessions)


# -- leaving ----------------------------------------------------------------------------------


async def test_a_node_that_leaves_says_so_at_once_and_closes_one_after_the_other(
    world: StartWorld,
) -> None:
    load = Load({f"user-{number}": 1 for number in range(40)}, rate=1.0, more=False)
    async with world(load=load, drain_delay_seconds=1.0, drain_seconds=10.0) as w:
        leaving, _ = w.nodes
        asked_at = time.monotonic()
        going = asyncio.create_task(leaving.terminate())
        assert await leaving.turns_unready(AT_ONCE_SECONDS) < AT_ONCE_SECONDS
        assert await going == 0
        await w.published(40)
        await w.everybody_listens()
        trace = await w.finish()
        require(trace)
        ends = [
            session.ended_at - asked_at
            for device in trace.devices
            for session in device.sessions
            if session.close_code == 1001
        ]
        assert len(ends) == 20
        assert min(ends) >= 1.0
        # 200 a second at most: twenty clients take a tenth of a second.
        assert max(ends) - min(ends) > 0.04
        assert all(len(device.sessions) <= 2 for device in trace.devices)


async def test_a_second_signal_ends_it_at_once(world: StartWorld) -> None:
    load = Load({"ann": 1, "ben": 1, "eve": 2})
    async with world(load=load, drain_delay_seconds=5.0) as w:
        leaving, _ = w.nodes
        leaving.process.process.send_signal(signal.SIGTERM)
        await leaving.turns_unready(AT_ONCE_SECONDS)
        begun = time.monotonic()
        # In so little time nobody gives anything back.
        leaving.killed |= dict.fromkeys(leaving.ids(), begun)
        await leaving.terminate()
        assert time.monotonic() - begun < AT_ONCE_SECONDS + MARGIN_SECONDS
        await w.everybody_listens()
        require(await w.finish())
