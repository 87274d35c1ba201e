"""Item 6: what a durable publish costs Redis and the program that publishes."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from publisher import AsyncPublisher, Publisher
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds
from tests.bench.scale import Scale
from tests.bench.world import PREFIX, Redis, own_redis

Result = dict[str, Any]
Messages = Sequence[tuple[str, Any]]

_CHANNELS = 1_000
_BATCH = 500
_FOLLOWERS = 16
_FOLLOWED = 500
"""Messages that nobody reads meanwhile: the kernel must have room for them."""

# The commands of publisher/contract/scripts/publish.lua on its ordinary way, without its thoughts.
_BARE = """
local prev = redis.call('MGET', KEYS[2], KEYS[3])[1] or '0'
local now = redis.call('TIME')
local name = string.format('%.0f', now[1] * 1000000 + now[2])
local entry = name .. ':' .. prev .. ':' .. ARGV[2] .. ':' .. ARGV[3]
redis.call('ZADD', KEYS[1], name, entry)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', name - ARGV[5] * 1000000))
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[2], name, 'EX', ARGV[6])
redis.call('PUBLISH', ARGV[1], entry)
return name
"""


async def publishing(scale: Scale) -> Result:
    """CPU of Redis and of the client for each publish, nobody listening.

    Several ways in turns: ``publish_many`` and single publishes of both clients, and as a measure
    the same commands in a bare script (``bare``) and nothing but ``PUBLISH`` (``unlogged``).
    """
    chance = random.Random(6)
    with own_redis() as server:
        async with _ways(server) as ways:
            found: dict[str, list[Result]] = {each.name: [] for each in ways}
            for number in range(-1, scale.rounds):
                for way in ways:
                    count = scale.single_publishes if way.single else scale.publishes
                    result = await _measure(server, way, _messages(count, scale, chance))
                    if number >= 0:  # the first is there to warm up
                        found[way.name].append(result)
        followers = statistics.median(_follower_us(server, scale) for _ in range(scale.rounds))
    return {
        **{name: _median(rounds) for name, rounds in found.items()},
        "follower_us": followers,
    }


def _follower_us(server: Redis, scale: Scale) -> float:
    """CPU of Redis for a message to a further connection that is subscribed, each message alone."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(redis.Redis.from_url(server.url))
        for _ in range(_FOLLOWERS):
            follower = stack.enter_context(client.pubsub())
            follower.subscribe("followed")
            follower.get_message(timeout=1)
        spent = {}
        for channel in ("alone", "followed"):
            before = cpu_seconds([server.pid])
            for _ in range(_FOLLOWED):
                client.publish(channel, b"x" * scale.message_bytes)
            spent[channel] = cpu_seconds([server.pid]) - before
    return (spent["followed"] - spent["alone"]) / _FOLLOWED / _FOLLOWERS * 1e6


@dataclass(frozen=True, slots=True)
class _Way:
    name: str
    publish: Callable[[Messages], Awaitable[None]]
    single: bool = False


@contextlib.asynccontextmanager
async def _ways(server: Redis) -> AsyncIterator[list[_Way]]:
    client = redis.asyncio.Redis.from_url(server.url, protocol=2)
    script = await client.script_load(_BARE)
    async with AsyncPublisher.from_url(server.url, prefix=PREFIX) as later:
        with Publisher.from_url(server.url, prefix=PREFIX) as now:

            async def many(messages: Messages) -> None:
                _check(now.publish_many(messages))

            async def many_awaited(messages: Messages) -> None:
                _check(await later.publish_many(messages))

            async def single(messages: Messages) -> None:
                for channel, data in messages:
                    now.publish(channel, data)

            async def single_awaited(messages: Messages) -> None:
                for channel, data in messages:
                    await later.publish(channel, data)

            yield [
                _Way("publish_many", many),
                _Way("publish_many_awaited", many_awaited),
                _Way("publish", single, single=True),
                _Way("publish_awaited", single_awaited, single=True),
                _Way("bare", lambda messages: _bare(client, script, messages)),
                _Way("unlogged", lambda messages: _unlogged(client, messages)),
            ]
    await client.aclose()


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _bare(client: redis.asyncio.Redis, script: str, messages: Messages) -> None:
    for batch in _batches(messages):
        pipeline = client.pipeline(transaction=False)
        for channel, data in batch:
            keys = [f"bare:{kind}:{{{channel}}}" for kind in ("log", "last", "retried")]
            live = f"bare:live:{{{channel}}}"
            arguments = [live, "0123456789abcdef", str(data), 200, 86_400, 2_592_000]
            pipeline.evalsha(script, 3, *keys, *arguments)
        await pipeline.execute()


async def _unlogged(client: redis.asyncio.Redis, messages: Messages) -> None:
    for batch in _batches(messages):
        pipeline = client.pipeline(transaction=False)
        for channel, data in batch:
            pipeline.publish(channel, str(data))
        await pipeline.execute()


def _batches(messages: Messages) -> list[Messages]:
    return [messages[first : first + _BATCH] for first in range(0, len(messages), _BATCH)]


def _messages(count: int, scale: Scale, chance: random.Random) -> Messages:
    return [
        (f"run-results/{chance.randrange(_CHANNELS)}", message(scale.message_bytes))
        for _ in range(count)
    ]


async def _measure(server: Redis, way: _Way, messages: Messages) -> Result:
    before, own_before = cpu_seconds([server.pid]), time.thread_time()
    began = time.monotonic()
    await way.publish(messages)
    seconds = time.monotonic() - began
    own = time.thread_time() - own_before
    count = len(messages)
    return {
        "redis_us": (cpu_seconds([server.pid]) - before) / count * 1e6,
        "client_us": own / count * 1e6,
        "wall_us": seconds / count * 1e6,
    }


def _median(rounds: Sequence[Result]) -> Result:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
