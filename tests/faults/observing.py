"""What is looked at all the time, and at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import aiohttp
import redis.asyncio
from redis.exceptions import RedisError

from publisher.contract.keys import Keys
from publisher.contract.message import decode
from tests.faults.node import Node, NotRunning
from tests.faults.trace import PlacesHeld, Readiness, Trace
from tests.support.redis_server import RedisServer

_SAMPLE_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 1.0


async def sample_places(
    server_of: Callable[[str], RedisServer], prefix: str, users: Iterable[str], trace: Trace
) -> None:
    """Count the places that users hold, where they are kept."""
    keys = {user: Keys(prefix).connections(user) for user in users}
    clients: dict[int, redis.asyncio.Redis] = {}
    async with contextlib.AsyncExitStack() as stack:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            for user, key in keys.items():
                port = server_of(key).port
                if port not in clients:
                    clients[port] = redis.asyncio.Redis(port=port, socket_timeout=1)
                    await stack.enter_async_context(clients[port])
                try:
                    count = await clients[port].zcard(key)
                except (RedisError, OSError):
                    continue
                trace.places.append(PlacesHeld(time.monotonic(), user, count))


async def sample_readiness(node: Node, number: int, trace: Trace) -> None:
    """Ask a node all the time whether it is ready, and hears itself through every primary."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            asked_at = time.monotonic()
            try:
                url = f"{node.process.internal_url}/readyz"
                async with session.get(url) as answer:
                    servers = (await answer.json())["redis"]
                ready = answer.status == 200 and node.servers.all_up(servers)
                trace.readiness.append(Readiness(number, asked_at, time.monotonic(), ready))
            except (aiohttp.ClientError, TimeoutError, NotRunning):
                pass
            await asyncio.sleep(_SAMPLE_SECONDS)


async def numbers_in_logs(
    server_of: Callable[[str], RedisServer], prefix: str, trace: Trace
) -> dict[str, dict[int, list[int]]]:
    """The ids under which each number is in the logs of all channels."""
    found: dict[str, dict[int, list[int]]] = {}
    several = (*trace.attempts, *trace.publications, *trace.plans)
    for channel in {each.channel for each in several}:
        numbers: dict[int, list[int]] = defaultdict(list)
        key = Keys(prefix).log(channel)
        async with redis.asyncio.Redis(port=server_of(key).port) as client:
            for entry in await client.zrange(key, 0, -1):
                message = decode(entry)
                if not message.removed:
                    numbers[json.loads(message.body)["number"]].append(message.id)
        found[channel] = dict(numbers)
    return found
