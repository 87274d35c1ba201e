"""What happens on the ways to Redis: the nodes' and the backends'."""

from __future__ import annotations

import asyncio
import contextlib
import random

from tests.faults.node import Node, NotRunning
from tests.faults.proxy import Greeting, Way
from tests.faults.world import World

NOTICED_SECONDS = 4.0
"""A node has to notice by itself, after which the fault counts as over."""


async def redis_refuses_a_node(w: World, dice: random.Random, seconds: float) -> None:
    node = dice.choice(w.nodes)
    async with w.fault("redis_refuses_a_node", node):
        node.redis.refuse()
        await asyncio.sleep(seconds)
        await node.redis.start()


async def redis_accepts_and_never_answers(w: World, dice: random.Random, seconds: float) -> None:
    await _greeted(w, dice, seconds, "redis_accepts_and_never_answers", Greeting.SILENCE)


async def redis_resets_while_opening(w: World, dice: random.Random, seconds: float) -> None:
    """Before the first reply, within it, or behind it."""
    await _greeted(w, dice, seconds, "redis_resets_while_opening", Greeting.RESET)


async def _greeted(
    w: World, dice: random.Random, seconds: float, name: str, greeting: Greeting
) -> None:
    node = dice.choice(w.nodes)
    async with w.fault(name, node):
        node.redis.greeting = greeting
        node.redis.reset_after = dice.choice((0, 3, 40))
        node.redis.cut()
        await asyncio.sleep(seconds)
        node.redis.greeting = Greeting.SERVE


async def our_bytes_vanish(w: World, dice: random.Random, seconds: float) -> None:
    """What the node sends never reaches Redis, on the connections that it has and on new ones."""
    node = dice.choice(w.nodes)
    async with w.fault("our_bytes_vanish", node):
        await _swallowed(node.redis.up, seconds)


async def their_bytes_vanish(w: World, dice: random.Random, seconds: float) -> None:
    """What Redis sends never reaches the node."""
    node = dice.choice(w.nodes)
    async with w.fault("their_bytes_vanish", node):
        await _swallowed(node.redis.down, seconds)


async def _swallowed(way: Way, seconds: float) -> None:
    way.swallows = True
    await asyncio.sleep(seconds)
    way.swallows = False


async def connections_are_half_open(w: World, dice: random.Random, _seconds: float) -> None:
    """Redis has forgotten some of a node's connections, and the node is not told."""
    node = dice.choice(w.nodes)
    async with w.fault("connections_are_half_open", node):
        links = node.redis.links
        for link in dice.sample(links, (len(links) + 1) // 2):
            link.half_open()
        await _noticed(node)


async def pubsub_goes_silent(w: World, dice: random.Random, _seconds: float) -> None:
    node = dice.choice(w.nodes)
    async with w.fault("pubsub_goes_silent", node):
        for link in [link for link in node.redis.links if link.subscribed]:
            link.down.freeze()
        await _noticed(node)


async def _noticed(node: Node) -> None:
    with contextlib.suppress(TimeoutError, NotRunning, RuntimeError):
        await node.turns_unready(NOTICED_SECONDS)


async def redis_is_far_away(w: World, dice: random.Random, seconds: float) -> None:
    node = dice.choice(w.nodes)
    async with w.fault("redis_is_far_away", node):
        node.redis.up.delay = node.redis.down.delay = dice.uniform(0.02, 0.2)
        await asyncio.sleep(seconds)
        node.redis.up.delay = node.redis.down.delay = 0


async def publishers_lose_their_replies(w: World, dice: random.Random, _seconds: float) -> None:
    async with w.fault("publishers_lose_their_replies"):
        w.backend.down.freeze()
        await asyncio.sleep(dice.uniform(0.4, 0.7))  # each backend publishes meanwhile
        w.backend.cut()
        w.backend.down.thaw()


async def publishers_lose_their_commands(w: World, _dice: random.Random, seconds: float) -> None:
    async with w.fault("publishers_lose_their_commands"):
        await _swallowed(w.backend.up, seconds)


async def publishers_are_reset_while_opening(w: World, dice: random.Random, seconds: float) -> None:
    async with w.fault("publishers_are_reset_while_opening"):
        w.backend.greeting = Greeting.RESET
        w.backend.reset_after = dice.choice((0, 3, 40))
        w.backend.cut()
        await asyncio.sleep(seconds)
        w.backend.greeting = Greeting.SERVE
