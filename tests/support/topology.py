"""The Redis that a run of the tests has: one server, a primary that Sentinel watches over, or a cluster.

``TOPOLOGY=sentinel`` or ``TOPOLOGY=cluster`` in the environment chooses. What the tests promise is the same on each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio

from publisher.contract.keys import Keys
from publisher.contract.redis_url import parse_cluster_url, parse_sentinel_url
from tests.support.programs import leave_out
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_server import redis_server
from tests.support.sentinel_servers import SentinelServers

SINGLE: Final = "single"
SENTINEL: Final = "sentinel"
CLUSTER: Final = "cluster"
TOPOLOGIES: Final = (SINGLE, SENTINEL, CLUSTER)

_DOWN_AFTER_MS: Final = 120_000
"""The servers are shared: a test that lets the primary hang must not bring a failover upon the others."""


def chosen() -> str:
    """The topology of this run.

    Raises:
        ValueError: the environment names one that the tests cannot run on.
    """
    name = os.environ.get("TOPOLOGY") or SINGLE
    if name not in TOPOLOGIES:
        raise ValueError(f"TOPOLOGY={name}: the tests run on {', '.join(TOPOLOGIES)}")
    if name != SINGLE and os.environ.get("TEST_REDIS_URL"):
        raise ValueError(f"TOPOLOGY={name}: TEST_REDIS_URL names a single server")
    return name


def require_one_server(why: str) -> None:
    """Skip the test where the run's Redis is more than one server: it is about what a single one does."""
    if chosen() != SINGLE:
        leave_out(f"a single server only: {why}")


def require(name: str) -> None:
    """Skip the test but on this topology: ``make test`` has a few of each, ``make test-all`` has all."""
    if chosen() != name:
        leave_out(f"TOPOLOGY={name} runs it")


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run the Redis of this run's topology until the block ends; yields what gateways and publishers are given."""
    if chosen() == SINGLE:
        with redis_server(folder) as url:
            yield url
        return
    if chosen() == CLUSTER:
        with redis_cluster(folder, node_timeout_ms=_DOWN_AFTER_MS) as cluster:
            yield cluster.url
        return
    servers = SentinelServers(folder, down_after_ms=_DOWN_AFTER_MS)
    try:
        # In a thread: the event loop of this one belongs to the tests.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, servers.start()).result()
        yield servers.url
    finally:
        servers.stop()


def keys(prefix: str, database: int = 0) -> Keys:
    """The names that publishers and nodes of this run use."""
    return Keys(prefix, database, sharded=chosen() == CLUSTER)


Looking: TypeAlias = redis.Redis | redis.RedisCluster
"""A client that looks at Redis itself."""


def looking_at(url: str) -> Looking:
    """A client with which a test looks at what is in the Redis of ``url``."""
    several = parse_cluster_url(url)
    if several is None:
        return redis.Redis.from_url(primary_url(url))
    return redis.RedisCluster.from_url(several.servers)


def looking_at_async(url: str) -> redis.asyncio.Redis | redis.asyncio.RedisCluster:
    """The same for asyncio."""
    several = parse_cluster_url(url)
    if several is None:
        return redis.asyncio.Redis.from_url(primary_url(url))
    return redis.asyncio.RedisCluster.from_url(several.servers)


def names(client: Looking, pattern: str) -> set[bytes]:
    """The keys of all primaries that match ``pattern``; ``KEYS`` of a cluster's client asks one of them."""
    return set(client.scan_iter(match=pattern))


def to_all(client: Looking, *command: str) -> None:
    """Send a command to all servers."""
    if isinstance(client, redis.RedisCluster):
        client.execute_command(*command, target_nodes=redis.RedisCluster.ALL_NODES)
    else:
        client.execute_command(*command)


async def ask_all(
    client: redis.asyncio.Redis | redis.asyncio.RedisCluster, *command: str
) -> list[Any]:
    """What each server answers."""
    if isinstance(client, redis.asyncio.Redis):
        return [await client.execute_command(*command)]
    await client.initialize()
    answers = await client.execute_command(*command, target_nodes=client.get_nodes())
    # Some answers are merged by the client.
    return list(answers.values()) if isinstance(answers, dict) else [answers]


async def names_like(
    client: redis.asyncio.Redis | redis.asyncio.RedisCluster, pattern: str
) -> list[bytes]:
    """The keys that match, in order; replicas have them too."""
    return sorted({name for names in await ask_all(client, "KEYS", pattern) for name in names})


def one_of(url: str) -> str:
    """The URL of one of the servers, by which commands to all nodes are heard."""
    several = parse_cluster_url(url)
    return several.servers if several else primary_url(url)


def primary_url(url: str) -> str:
    """Of the server that ``url`` leads to now: itself, or the primary that a sentinel names. Skips on a cluster."""
    if parse_cluster_url(url):
        leave_out("a single primary only: a cluster has several")
    parts = parse_sentinel_url(url)
    if parts is None:
        return url
    with redis.Redis.from_url(parts.sentinels[0]) as sentinel:
        host, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", parts.name)
    one = urlsplit(parts.servers)
    credentials, at, _ = one.netloc.rpartition("@")
    address = f"{credentials}{at}{host.decode()}:{port.decode()}"
    return urlunsplit(one._replace(netloc=address)).rstrip("/")


def on_database(url: str, number: int) -> str:
    """The same Redis with another of its databases. Skips on a cluster."""
    if parse_cluster_url(url):
        leave_out("several databases only: a cluster has one")
    return f"{url.rstrip('/')}/{number}"
