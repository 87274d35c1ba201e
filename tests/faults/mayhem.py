"""All faults at random: two hands at once, one busy with Redis, the other with nodes and lines."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from tests.faults.node import Node
from tests.faults.proxy import Link, Way
from tests.faults.world import World

Fault = Callable[[World, random.Random], Awaitable[None]]

# A node that is away longer than its lease gives its users' places to others.
LONGEST_FREEZE_SECONDS: Final = 13.0


async def redis_killed(w: World, dice: random.Random) -> None:
    async with w.outage():
        w.server.kill()
        await asyncio.sleep(dice.uniform(0, 3))
        await asyncio.to_thread(w.server.restart)


async def redis_hangs(w: World, dice: random.Random) -> None:
    async with w.outage():
        w.server.freeze()
        await asyncio.sleep(dice.uniform(0.2, 5))
        w.server.thaw()


async def redis_ends_pubsub(w: World, _dice: random.Random) -> None:
    async with w.outage():
        try:
            async with redis.asyncio.Redis(port=w.server.port, socket_timeout=1) as admin:
                await admin.client_kill_filter(_type="pubsub")
        except (RedisError, OSError):
            return


async def redis_refuses_a_node(w: World, dice: random.Random) -> None:
    proxy = dice.choice(w.nodes).redis
    async with w.outage():
        proxy.refuse()
        await asyncio.sleep(dice.uniform(0.2, 4))
        await proxy.start()


async def pubsub_goes_silent(w: World, dice: random.Random) -> None:
    async with w.outage():
        for link in [link for link in dice.choice(w.nodes).redis.links if link.subscribed]:
            link.down.freeze()


async def redis_is_far_away(w: World, dice: random.Random) -> None:
    proxy = dice.choice(w.nodes).redis
    async with w.outage():
        await _for_a_while(proxy.up, proxy.down, dice)


async def _for_a_while(up: Way, down: Way, dice: random.Random) -> None:
    up.delay = down.delay = dice.uniform(0.02, 0.2)
    await asyncio.sleep(dice.uniform(1, 4))
    up.delay = down.delay = 0


async def publishers_lose_their_replies(w: World, dice: random.Random) -> None:
    w.backend.down.freeze()
    await asyncio.sleep(dice.uniform(0.05, 0.5))
    w.backend.cut()
    w.backend.down.thaw()


def _any_node(w: World, dice: random.Random) -> Node:
    """One of those that may end. The first never does, so that its memory tells of the whole time."""
    return dice.choice(w.nodes[1:])


async def node_killed(w: World, dice: random.Random) -> None:
    node = _any_node(w, dice)
    await node.kill()
    await asyncio.sleep(dice.uniform(0, 2))
    await node.start()


async def node_replaced(w: World, dice: random.Random) -> None:
    node = _any_node(w, dice)
    await node.terminate()
    await node.start()


async def node_frozen(w: World, dice: random.Random) -> None:
    node = dice.choice(w.nodes)
    async with w.outage():
        node.freeze()
        await asyncio.sleep(dice.choice((dice.uniform(0.2, 3), LONGEST_FREEZE_SECONDS)))
        node.thaw()


def _lines(w: World, dice: random.Random) -> list[Link]:
    """A third of the clients' lines."""
    lines = [w.front.from_port(c.local_port) for c in w.subscribed if c.local_port]
    return dice.sample(lines, len(lines) // 3)


async def lines_break(w: World, dice: random.Random) -> None:
    for line in _lines(w, dice):
        line.cut()


async def lines_choke_and_break(w: World, dice: random.Random) -> None:
    lines = _lines(w, dice)
    for line in lines:
        dice.choice((line.up, line.down)).freeze()
    await asyncio.sleep(dice.uniform(0.1, 1.5))
    for line in lines:
        line.cut()


async def clients_vanish(w: World, dice: random.Random) -> None:
    for line in _lines(w, dice):
        line.vanish()


async def lines_are_slow(w: World, dice: random.Random) -> None:
    lines = _lines(w, dice)
    for line in lines:
        line.down.bytes_per_second = dice.uniform(200, 2_000)
    await asyncio.sleep(dice.uniform(2, 8))
    for line in lines:
        line.down.bytes_per_second = None


REDIS_FAULTS: Final[list[Fault]] = [
    redis_killed,
    redis_hangs,
    redis_ends_pubsub,
    redis_refuses_a_node,
    pubsub_goes_silent,
    redis_is_far_away,
    publishers_lose_their_replies,
]
OTHER_FAULTS: Final[list[Fault]] = [
    node_killed,
    node_replaced,
    node_frozen,
    lines_break,
    lines_choke_and_break,
    clients_vanish,
    lines_are_slow,
]


async def mayhem(w: World, seed: int, seconds: float) -> Counter[str]:
    """Inject faults for ``seconds`` (and until the last is over); returns how many of which kind."""
    done: Counter[str] = Counter()
    ends_at = asyncio.get_running_loop().time() + seconds

    async def hand(faults: list[Fault], dice: random.Random) -> None:
        while asyncio.get_running_loop().time() < ends_at:
            fault = dice.choice(faults)
            await fault(w, dice)
            done[fault.__name__] += 1
            await asyncio.sleep(dice.uniform(0.2, 2))

    # Each hand has dice of its own: what one does must not depend on how quick the other was.
    async with asyncio.TaskGroup() as hands:
        hands.create_task(hand(REDIS_FAULTS, random.Random(f"{seed} Redis")))
        hands.create_task(hand(OTHER_FAULTS, random.Random(f"{seed} other")))
    return done
