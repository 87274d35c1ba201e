"""What happens to gateways, backends, and the lines of clients."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.faults.node import Node
from tests.faults.proxy import Link
from tests.faults.world import World
from tests.support.waiting import until


def _any_node(w: World, dice: random.Random) -> Node:
    """One of those that may end. The first never does, so that its memory tells of the whole time."""
    return dice.choice(w.nodes[1:])


async def node_killed(w: World, dice: random.Random, seconds: float) -> None:
    node = _any_node(w, dice)
    async with w.fault("node_killed", node):
        await node.kill()
        await asyncio.sleep(seconds)
        await node.start()


async def node_replaced(w: World, dice: random.Random, _seconds: float) -> None:
    node = _any_node(w, dice)
    async with w.fault("node_replaced", node):
        await node.terminate()
        await node.start()


async def node_frozen(w: World, dice: random.Random, seconds: float) -> None:
    node = dice.choice(w.nodes)
    async with w.fault("node_frozen", node):
        node.freeze()
        await asyncio.sleep(seconds)
        node.thaw()


async def publisher_killed(w: World, _dice: random.Random, seconds: float) -> None:
    """In the middle of a publish: Redis has it, and the answer is on its way."""
    async with w.fault("publisher_killed"):
        w.backend.down.freeze()
        known = len(w.process.attempts())
        await until(lambda: len(w.process.attempts()) > known)
        await w.process.kill()
        w.backend.down.thaw()
        await asyncio.sleep(seconds)
        await w.process.start()


async def publisher_frozen(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("publisher_frozen"):
        w.process.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        w.process.signal(signal.SIGCONT)


# -- the lines of clients ---------------------------------------------------------------------


def _all_lines(w: World) -> list[Link]:
    return [w.front.from_port(c.local_port) for c in w.subscribed if c.local_port]


def _lines(w: World, dice: random.Random) -> list[Link]:
    """A third of the clients' lines."""
    lines = _all_lines(w)
    return dice.sample(lines, len(lines) // 3)


async def lines_break(w: World, dice: random.Random, _seconds: float) -> None:
    async with w.fault("lines_break"):
        for line in _lines(w, dice):
            line.cut()


async def everybody_reconnects(w: World, _dice: random.Random, _seconds: float) -> None:
    """All tabs of all users at once; it is over when all have noticed."""
    async with w.fault("everybody_reconnects"):
        sessions = [client.device.sessions[-1] for client in w.subscribed]
        for line in _all_lines(w):
            line.cut()
        await until(lambda: all(session.ended_at is not None for session in sessions))


async def lines_choke_and_break(w: World, dice: random.Random, seconds: float) -> None:
    lines = _lines(w, dice)
    async with w.fault("lines_choke_and_break"):
        for line in lines:
            dice.choice((line.up, line.down)).freeze()
        await asyncio.sleep(min(seconds, 1.5))
        for line in lines:
            line.cut()


async def clients_vanish(w: World, dice: random.Random, _seconds: float) -> None:
    async with w.fault("clients_vanish"):
        for line in _lines(w, dice):
            line.vanish()


async def lines_are_slow(w: World, dice: random.Random, seconds: float) -> None:
    lines = _lines(w, dice)
    async with w.fault("lines_are_slow"):
        for line in lines:
            line.down.bytes_per_second = dice.uniform(200, 2_000)
        await asyncio.sleep(2 * seconds)
        for line in lines:
            line.down.bytes_per_second = None
