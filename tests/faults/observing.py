"""What is looked at all the time, and at the end."""

from __future__ import annotations

import asyncio
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
    server: Callable[[], RedisServer], prefix: str, users: Iterable[str], trace: Trace
) -> None:
    """Count the places that users hold, where they are kept."""
    keys = {user: Keys(prefix).connections(user) for user in users}
    while True:
        current = server()
        async with redis.asyncio.Redis(port=current.port, socket_timeout=1) as client:
            while server() is current:
                await asyncio.sleep(_SAMPLE_SECONDS)
                for user, key in keys.items():
                    try:
                        count = await client.zcard(key)
                    except (RedisError, OSError):
                        continue
                    trace.places.append(PlacesHeld(time.monotonic(), user, count))


async def sample_readiness(node: Node, number: int, trace: Trace) -> None:
    """Ask a node all the time whether it is ready."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            asked_at = time.monotonic()
            try:
                url = f"{node.process.internal_url}/readyz"
                async with session.get(url) as answer:
                    ready = answer.status == 200
                trace.readiness.append(Readiness(number, asked_at, time.monotonic(), ready))
            except (aiohttp.ClientError, TimeoutError, NotRunning):
                pass
            await asyncio.sleep(_SAMPLE_SECONDS)


async def numbers_in_logs(
    client: redis.asyncio.Redis, prefix: str, trace: Trace
) -> dict[str, dict[int, list[int]]]:
    """The ids under which each number is in the logs of the channels whose publishes are not repeated."""
    found: dict[str, dict[int, list[int]]] = {}
    for channel in {each.channel for each in trace.attempts}:
        numbers: dict[int, list[int]] = defaultdict(list)
        for entry in await client.zrange(Keys(prefix).log(channel), 0, -1):
            message = decode(entry)
            numbers[json.loads(message.body)["number"]].append(message.id)
        found[channel] = dict(numbers)
    return found
