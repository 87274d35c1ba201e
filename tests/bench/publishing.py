"""Item 6: what a durable publish costs Redis and the program that publishes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio

from publisher import AsyncPublisher, Publisher
from tests.bench.fanout import message
from tests.bench.measuring import cpu_seconds
from tests.bench.scale import Scale
from tests.bench.world import PREFIX, Redis, own_redis

Result = dict[str, Any]
Messages = Sequence[tuple[str, Any]]
Publish = Callable[[Messages], Awaitable[None]]

_CHANNELS = 1_000
_FULL_CHANNELS = 5
"""So few that their logs are full after the first round."""
_BATCH = 500
_FOLLOWERS = 16
_FOLLOWED = 500
"""Messages that nobody reads meanwhile: the kernel must have room for them."""
_CONCURRENT = 1_000
_KEPT = 200
"""What the namespace ``run-results`` keeps."""

# What a history that is kept in a stream needs for each message, as Centrifugo's Redis engine does it.
_STREAM = """
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
  epoch = ARGV[5]
  redis.call('HSET', KEYS[2], 'e', epoch)
end
local offset = redis.call('HINCRBY', KEYS[2], 's', 1)
redis.call('EXPIRE', KEYS[2], ARGV[4])
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], offset, 'd', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[3], '__' .. 'p1:' .. offset .. ':' .. epoch .. '__' .. ARGV[1])
return {offset, epoch}
"""


async def publishing(scale: Scale) -> Result:
    """CPU of Redis and of the client for each publish, nobody listening.

    Several ways in turns: ``publish_many``, single publishes and concurrent ones. As a measure a script that keeps the
    history in a stream (``stream``), and nothing but ``PUBLISH`` (``unlogged``). Each into logs with room, and into
    full ones (``…_full``).
    """
    chance = random.Random(6)
    with own_redis() as server:
        async with _ways(server) as ways:
            found: dict[str, list[Result]] = {each.name: [] for each in ways}
            for number in range(-1, scale.rounds):
                for way in ways:
                    count = scale.single_publishes if way.single else scale.publishes
                    messages = random_messages(count, way.channels, scale, chance)
                    result = await measure(server, way.publish, messages)
                    if number >= 0:  # the first is there to warm up, and to fill logs
                        found[way.name].append(result)
        followers = statistics.median(_follower_us(server, scale) for _ in range(scale.rounds))
    return {
        **{name: medians(rounds) for name, rounds in found.items()},
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
            before = cpu_seconds(server.pids)
            for _ in range(_FOLLOWED):
                client.publish(channel, b"x" * scale.message_bytes)
            spent[channel] = cpu_seconds(server.pids) - before
    return (spent["followed"] - spent["alone"]) / _FOLLOWED / _FOLLOWERS * 1e6


@dataclass(frozen=True, slots=True)
class _Way:
    name: str
    publish: Publish
    single: bool = False
    full: bool = False

    @property
    def channels(self) -> Sequence[str]:
        # Of its own: it would find logs that are full by the others'.
        count = _FULL_CHANNELS if self.full else _CHANNELS
        return [f"run-results/{self.name}-{n}" for n in range(count)]


@contextlib.asynccontextmanager
async def _ways(server: Redis) -> AsyncIterator[list[_Way]]:
    async with (
        redis.asyncio.Redis.from_url(server.url, protocol=2) as client,
        AsyncPublisher.from_url(server.url, prefix=PREFIX) as later,
    ):
        stream = _Stream(client, await client.script_load(_STREAM))
        with Publisher.from_url(server.url, prefix=PREFIX) as now:
            ways = Ways(now, later)
            yield [
                _Way("publish_many", ways.many),
                _Way("stream_many", stream.many),
                _Way("publish_many_full", ways.many, full=True),
                _Way("stream_many_full", stream.many, full=True),
                _Way("publish_many_awaited", ways.many_awaited),
                _Way("concurrent", ways.concurrent),
                _Way("publish", ways.single, single=True),
                _Way("publish_awaited", ways.single_awaited, single=True),
                _Way("stream", stream.single, single=True),
                _Way("publish_awaited_full", ways.single_awaited, single=True, full=True),
                _Way("stream_full", stream.single, single=True, full=True),
                _Way("unlogged", lambda messages: _unlogged(client, messages)),
            ]


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways of the publisher."""

    now: Publisher
    later: AsyncPublisher

    async def many(self, messages: Messages) -> None:
        _check(self.now.publish_many(messages))

    async def many_awaited(self, messages: Messages) -> None:
        _check(await self.later.publish_many(messages))

    async def concurrent(self, messages: Messages) -> None:
        for batch in _batches(messages, _CONCURRENT):
            await asyncio.gather(*(self.later.publish(channel, data) for channel, data in batch))

    async def single(self, messages: Messages) -> None:
        for channel, data in messages:
            self.now.publish(channel, data)

    async def single_awaited(self, messages: Messages) -> None:
        for channel, data in messages:
            await self.later.publish(channel, data)


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


@dataclass(frozen=True, slots=True)
class _Stream:
    """The script that keeps the history in a stream."""

    client: Any
    script: str

    async def many(self, messages: Messages) -> None:
        for batch in _batches(messages, _BATCH):
            pipeline = self.client.pipeline(transaction=False)
            for channel, data in batch:
                pipeline.evalsha(self.script, 3, *_stream_arguments(channel, data))
            await pipeline.execute()

    async def single(self, messages: Messages) -> None:
        for channel, data in messages:
            await self.client.evalsha(self.script, 3, *_stream_arguments(channel, data))


def _stream_arguments(channel: str, data: Any) -> list[Any]:
    keys = [f"stream:{kind}:{{{channel}}}" for kind in ("log", "meta", "live")]
    return [*keys, orjson.dumps(data), _KEPT, 86_400, 2_592_000, "abcd"]


async def _unlogged(client: Any, messages: Messages) -> None:
    for batch in _batches(messages, _BATCH):
        pipeline = client.pipeline(transaction=False)
        for channel, data in batch:
            pipeline.publish(channel, str(data))
        await pipeline.execute()


def _batches(messages: Messages, size: int) -> list[Messages]:
    return [messages[first : first + size] for first in range(0, len(messages), size)]


def random_messages(
    count: int, channels: Sequence[str], scale: Scale, chance: random.Random
) -> Messages:
    """So many messages, each to any of ``channels``."""
    return [(chance.choice(channels), message(scale.message_bytes)) for _ in range(count)]


async def measure(server: Redis, publish: Publish, messages: Messages) -> Result:
    """CPU of Redis, of its busiest server and of this thread, and time, for each message, in microseconds."""
    before, own_before = [cpu_seconds([pid]) for pid in server.pids], time.thread_time()
    began = time.monotonic()
    await publish(messages)
    seconds = time.monotonic() - began
    own = time.thread_time() - own_before
    used = [cpu_seconds([pid]) - each for pid, each in zip(server.pids, before, strict=True)]
    figures = {"redis_us": sum(used), "busiest_us": max(used), "client_us": own, "wall_us": seconds}
    return {name: each / len(messages) * 1e6 for name, each in figures.items()}


def medians(rounds: Sequence[Result]) -> Result:
    """The median of each figure."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
