"""Redis killed, emptied, hung, out of reach: sockets stay, readiness tells, and no message is lost unknowingly."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio

from tests.faults.allowance import STRICT, Allowance
from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.faults.node import Node
from tests.faults.trace import Interval, Trace
from tests.faults.world import Load, World
from tests.support.waiting import until

pytestmark = pytest.mark.one_server("its faults are those of the way to a single Redis")

KILLS = 10
TURN_SECONDS = 3.0
"""Readiness is lost so soon after Redis, and is back so soon after Redis is (issue 3, Redis trouble)."""


async def unready(nodes: list[Node]) -> None:
    """Every node says in time that it is not ready, and turns clients away with 503."""
    await asyncio.gather(*(node.turns_unready(TURN_SECONDS) for node in nodes))
    assert {await node.handshake_status() for node in nodes} == {503}


async def ready(nodes: list[Node]) -> None:
    """Every node is ready again in time."""
    await asyncio.gather(*(node.turns_ready(TURN_SECONDS) for node in nodes))


async def judge(w: World, allowance: Allowance = STRICT) -> Trace:
    """All invariants hold, every process lives, and no socket was closed."""
    assert all(node.running for node in w.nodes)
    trace = await w.finish()
    require(trace, allowance)
    assert trace.breaks() == []
    return trace


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_ten_kills_lose_nothing(world: StartWorld) -> None:
    async with world() as w:
        for _ in range(KILLS):
            async with w.outage():
                w.server.kill()
                await asyncio.sleep(w.dice.uniform(0, 0.5))
                await asyncio.to_thread(w.server.restart)
                await ready(w.nodes)
            await w.published(20)
        trace = await judge(w)
        assert len(trace.publications) > KILLS * 20


async def test_a_redis_that_is_away_is_noticed_and_its_return_too(world: StartWorld) -> None:
    async with world() as w:
        async with w.outage():
            w.server.kill()
            await unready(w.nodes)
            await asyncio.to_thread(w.server.restart)
            await ready(w.nodes)
        await w.published(20)
        await judge(w)


async def test_what_a_redis_without_its_data_has_lost_is_reported(world: StartWorld) -> None:
    async with world() as w:
        await w.published(30)
        async with w.outage():
            # Published and on its way, but not to these clients: nobody but Redis has it.
            for node in w.nodes:
                node.redis.down.freeze()
            await w.published(20)
            w.server.kill()
            w.server.forget()
            for node in w.nodes:
                node.redis.cut()
                node.redis.down.thaw()
            await asyncio.to_thread(w.server.restart)
            await ready(w.nodes)
        await w.published(30)
        trace = await judge(w, Allowance(losses=True))
        [outage] = trace.outages
        # A node knows of a loss where it has seen a message, and where nothing was ever said nothing is lost.
        before = {each.channel for each in trace.publications if each.published_at < outage.begin}
        maybe = {each.channel for each in trace.publications if each.asked_at < outage.end}
        maybe |= {each.channel for each in trace.plans if each.at < outage.end}
        assert before & heard_throughout(trace, outage) <= told_of_losses(trace) <= maybe


def heard_throughout(trace: Trace, interval: Interval) -> set[str]:
    """The channels to which somebody was subscribed from its beginning to its end."""
    return {
        channel
        for device in trace.devices
        for channel in device.channels
        if device.heard_throughout(channel, interval)
    }


def told_of_losses(trace: Trace) -> set[str]:
    """The channels in which somebody was told of a loss."""
    return {
        report.channel
        for device in trace.devices
        for session in device.sessions
        for report in session.reports
    }


@pytest.mark.long
async def test_a_redis_that_hangs_is_noticed_and_nothing_is_lost(world: StartWorld) -> None:
    async with world() as w:
        async with w.outage():
            w.server.freeze()
            await unready(w.nodes)
            await asyncio.sleep(w.dice.uniform(0, 2))
            w.server.thaw()
            await ready(w.nodes)
        await w.published(20)
        await judge(w)


@pytest.mark.long
async def test_a_redis_that_is_away_for_longer_than_the_nodes_leases_costs_no_place(
    world: StartWorld,
) -> None:
    """All leases run out together, which proves nobody's death: the sixth device stays outside."""
    async with world(load=Load({"ann": 1, "fay": 6}), node_lease_seconds=3) as w:
        async with w.outage():
            w.server.kill()
            await unready(w.nodes)
            await asyncio.sleep(5)
            await asyncio.to_thread(w.server.restart)
            await ready(w.nodes)
        await w.published(20)
        await judge(w)


async def test_a_redis_that_hangs_for_a_moment_costs_nothing(world: StartWorld) -> None:
    async with world() as w:
        for _ in range(5):
            w.server.freeze()
            await asyncio.sleep(w.dice.uniform(0.1, 1))
            w.server.thaw()
            await w.published(10)
        await judge(w)


async def test_a_node_that_redis_refuses_catches_up_while_others_go_on(world: StartWorld) -> None:
    async with world() as w:
        cut_off, other = w.nodes
        async with w.outage():
            cut_off.redis.refuse()
            await unready([cut_off])
            await w.published(50)
            assert await other.ready()
            await cut_off.redis.start()
            await ready([cut_off])
        await w.published(20)
        await judge(w)


@pytest.mark.long
async def test_a_slow_way_to_redis_keeps_order(world: StartWorld) -> None:
    async with world() as w:
        slow = w.nodes[0].redis
        slow.up.delay = slow.down.delay = 0.15
        w.backend.down.delay = 0.1
        await w.published(100)
        slow.up.delay = slow.down.delay = 0
        await judge(w)


@pytest.mark.long
async def test_replies_to_publishers_that_are_cut_off_duplicate_nothing(world: StartWorld) -> None:
    async with world() as w:
        for _ in range(10):
            w.backend.down.freeze()
            await asyncio.sleep(w.dice.uniform(0.05, 0.3))
            w.backend.cut()
            w.backend.down.thaw()
            await w.published(5)
        await judge(w)


# -- the pub/sub connection -------------------------------------------------------------------


async def test_pubsub_connections_that_redis_kills_are_made_anew(world: StartWorld) -> None:
    async with world() as w, redis.asyncio.Redis(port=w.server.port) as admin:
        for _ in range(5):
            async with w.outage():
                assert await admin.client_kill_filter(_type="pubsub") >= len(w.nodes)
                await ready(w.nodes)
            await w.published(20)
        await judge(w)


async def test_a_pubsub_connection_over_redis_output_limit_costs_nothing(
    world: StartWorld,
) -> None:
    # Valkey does not count what it sends without a copy, from 16 KiB on.
    load = Load(rate=20.0, padding=15_000)
    async with world(load=load) as w, redis.asyncio.Redis(port=w.server.port) as admin:
        await admin.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
        frozen, _ = w.nodes
        async with w.outage():
            frozen.freeze()
            await until(lambda: w.server.log_has("overcoming of output buffer limits"), 30)
            frozen.thaw()
            await frozen.turns_unready(TURN_SECONDS)
            await ready(w.nodes)
        await w.published(20)
        await judge(w)


@pytest.mark.long
async def test_a_pubsub_connection_that_goes_silent_is_made_anew(world: StartWorld) -> None:
    async with world() as w:
        silent, other = w.nodes
        async with w.outage():
            [link] = [link for link in silent.redis.links if link.subscribed]
            begun = time.monotonic()
            link.down.freeze()
            await unready([silent])
            assert await other.ready()
            # The frozen link stays frozen: only another one can bring the node back.
            await silent.turns_ready(TURN_SECONDS)
            assert link.up is not None and time.monotonic() - begun < 2 * TURN_SECONDS
        await w.published(20)
        await judge(w)
