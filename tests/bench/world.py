"""A gateway of its own with a Redis of its own, as every scenario starts them anew."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from publisher import AsyncPublisher
from tests.bench.measuring import with_children
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token

PREFIX = "bench"
NAMESPACE = "bench"
ROOM = f"{NAMESPACE}/room"
_NAMESPACES = {NAMESPACE: {"owner": "anyone"}}
"""Retained like any other namespace, a thousand messages for a week; only nobody needs a grant."""
_NO_LIMIT = 1_000_000

GREETINGS = 2
"""Frames that a client gets before its messages: ``connected`` and ``subscribed``."""


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis that runs, or a cluster, of whose primaries ``pids`` are. It keeps nothing on disk."""

    url: str
    pids: Sequence[int]


@dataclass(frozen=True, slots=True)
class World:
    """What runs."""

    redis: Redis
    gateway: GatewayProcess

    @property
    def pids(self) -> list[int]:
        """The gateway's processes."""
        return with_children(self.gateway.process.pid)

    async def gauge(self, name: str) -> float:
        """A figure of the gateway's metrics."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.gateway.internal_url}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@contextlib.contextmanager
def own_redis() -> Iterator[Redis]:
    """Run a Redis until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield Redis(server.url, [server.pid])
        finally:
            server.stop()


@contextlib.contextmanager
def own_cluster(primaries: int, *, replicated: bool = False) -> Iterator[Redis]:
    """Run a Redis Cluster until the block ends."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder,
        redis_cluster(Path(folder), primaries=primaries, replicated=replicated) as cluster,
    ):
        yield Redis(cluster.url, [each.pid for each in cluster.servers[:primaries]])


@contextlib.asynccontextmanager
async def world_on(server: Redis, **settings: Any) -> AsyncIterator[World]:
    """Run a gateway on a Redis as ``gateway serve`` starts it, with its default settings, until the block ends.

    Only its handshakes wait for no turn, since it is measured what they cost.
    """
    given = {"namespaces": json.dumps(_NAMESPACES), "handshakes_per_second": _NO_LIMIT}
    settings = given | settings
    async with gateway_process(server.url, PREFIX, **settings) as gateway:
        yield World(server, gateway)


@contextlib.asynccontextmanager
async def own_world(**settings: Any) -> AsyncIterator[World]:
    """The same on a Redis of its own."""
    with own_redis() as server:
        async with world_on(server, **settings) as world:
            yield world


def target(user: str, channel: str, query: str = "") -> str:
    """A client that subscribes to a channel, for the receiver."""
    return target_of_all(user, [channel], query)


def target_of_all(user: str, channels: Sequence[str], query: str = "") -> str:
    """A client that subscribes to several channels."""
    frames = [json.dumps({"type": "subscribe", "channel": each}) for each in channels]
    return "\t".join([f"/?token={make_token(user)}{query}", "~", *frames])


def own_channel(user: str) -> str:
    """The channel of a user's own."""
    return f"notifications/{user}"


def users(count: int, group: str = "user") -> list[str]:
    """So many users' names."""
    return [f"{group}-{number}" for number in range(count)]


async def publish(url: str, messages: Sequence[tuple[str, Any]]) -> None:
    """Publish durably, and see that all was."""
    async with AsyncPublisher.from_url(url, prefix=PREFIX) as publisher:
        for outcome in await publisher.publish_many(messages):
            if isinstance(outcome, Exception):
                raise outcome
