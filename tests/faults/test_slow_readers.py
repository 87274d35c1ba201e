"""Clients that read more slowly than is published to them, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.conftest import StartWorld
from tests.faults.delivery import arrivals
from tests.faults.invariants import require
from tests.faults.plain_client import PlainClient
from tests.faults.proxy import Proxy
from tests.faults.trace import Device, Trace
from tests.faults.world import Load, World
from tests.support.waiting import until

SLOW_SECONDS = 30.0
BUSY = "run-results/busy"
MESSAGES_PER_SECOND = 50.0
MESSAGE_BYTES = 16_000
LINE_BYTES_PER_SECOND = 20_000
MIB = 1024 * 1024
ROOM_BYTES = 8 * MIB
"""What a node may take for one slow reader, while more than that waits for it: the high-water mark, a page of
the log, and the allocator's slack."""
LIVE_SECONDS = 2.0
STALL_SECONDS = 3.0


@contextlib.asynccontextmanager
async def two_readers(w: World) -> AsyncIterator[tuple[PlainClient, PlainClient, Proxy]]:
    """A slow and a quick reader of a busy channel at one node, and the slow one's line."""
    node = w.nodes[0]
    line = Proxy(node.port, buffer=64 * 1024)
    await line.start()
    try:
        slow = w.add_client(Device("sly", "the slow one", (BUSY,)), f"ws://127.0.0.1:{line.port}")
        quick = w.add_client(Device("quinn", "the quick one", (BUSY,)), node.url)
        await until(lambda: slow.subscribed and quick.subscribed)
        w.publish(BUSY, MESSAGES_PER_SECOND, MESSAGE_BYTES, keyed=False)
        yield slow, quick, line
    finally:
        await line.aclose()


def waits(trace: Trace, device: Device) -> list[float]:
    """How long each message of the busy channel took to reach a device."""
    arrived = {each.number: each.at for each in reversed(list(arrivals(device, BUSY)))}
    published = [each for each in trace.publications if each.channel == BUSY]
    return [arrived[each.number] - each.published_at for each in published]


@pytest.mark.long
@pytest.mark.timeout(150)
async def test_a_reader_that_is_slow_for_long_costs_bounded_memory_and_gets_everything(
    world: StartWorld,
) -> None:
    async with world(load=Load({"ann": 1, "eve": 2})) as w, two_readers(w) as (slow, quick, line):
        node = w.nodes[0]
        await w.published(100)
        before = most = node.process.resident_bytes
        line.down.bytes_per_second = LINE_BYTES_PER_SECOND
        until_then = time.monotonic() + SLOW_SECONDS

        def behind() -> int:
            return len(list(arrivals(quick.device, BUSY))) - len(list(arrivals(slow.device, BUSY)))

        # On a busy machine fewer are published in this time than the room holds.
        while time.monotonic() < until_then or behind() * MESSAGE_BYTES <= 2 * ROOM_BYTES:
            await asyncio.sleep(0.2)
            most = max(most, node.process.resident_bytes)
        assert most - before < ROOM_BYTES
        line.down.bytes_per_second = None
        trace = await w.finish()
        require(trace)
        assert len(slow.device.sessions) == 1
        assert max(waits(trace, quick.device)) < LIVE_SECONDS
        assert max(waits(trace, slow.device)) > 0.8 * SLOW_SECONDS


async def test_a_reader_that_takes_nothing_is_closed_and_gets_everything_afterwards(
    world: StartWorld,
) -> None:
    load = Load({"ann": 1, "eve": 2})
    async with world(load=load, stall_seconds=STALL_SECONDS) as w, two_readers(w) as readers:
        slow, quick, line = readers
        await w.published(50)
        line.down.freeze()
        stuck_at = time.monotonic()
        closed = 'gateway_connections_closed_total{code="1013"}'
        await until(lambda: w.nodes[0].metric(closed), 3 * STALL_SECONDS)
        assert time.monotonic() - stuck_at > STALL_SECONDS
        line.down.thaw()
        await until(lambda: len(slow.device.sessions) == 2)
        trace = await w.finish()
        require(trace)
        assert slow.device.sessions[0].close_code == 1013
        assert max(waits(trace, quick.device)) < LIVE_SECONDS
