"""The Redis that a run of the tests has: one server, or a primary that Sentinel watches over.

``TOPOLOGY=sentinel`` in the environment chooses. What the tests promise is the same on each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import redis

from publisher.contract.redis_url import parse_sentinel_url
from tests.support.programs import leave_out
from tests.support.redis_server import redis_server
from tests.support.sentinel_servers import SentinelServers

SINGLE: Final = "single"
SENTINEL: Final = "sentinel"
TOPOLOGIES: Final = (SINGLE, SENTINEL)

_DOWN_AFTER_MS: Final = 120_000
"""The servers are shared: a test that lets the primary hang must not bring a failover upon the others."""


def chosen() -> str:
    """The topology of this run.

    Raises:
        ValueError: the environment names one that the tests cannot run on.
    """
    name = os.environ.get("TOPOLOGY") or SINGLE
    if name not in TOPOLOGIES:
        raise ValueError(f"TOPOLOGY={name}: the tests run on {' and '.join(TOPOLOGIES)}")
    if name != SINGLE and os.environ.get("TEST_REDIS_URL"):
        raise ValueError(f"TOPOLOGY={name}: TEST_REDIS_URL names a single server")
    return name


def require_one_server(why: str) -> None:
    """Skip the test where the run's Redis is more than one server: it is about what a single one does."""
    if chosen() != SINGLE:
        leave_out(f"a single server only: {why}")


@contextlib.contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run the Redis of this run's topology until the block ends; yields what gateways and publishers are given."""
    if chosen() == SINGLE:
        with redis_server(folder) as url:
            yield url
        return
    servers = SentinelServers(folder, down_after_ms=_DOWN_AFTER_MS)
    try:
        # In a thread: the event loop of this one belongs to the tests.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, servers.start()).result()
        yield servers.url
    finally:
        servers.stop()


def primary_url(url: str) -> str:
    """Of the server that ``url`` leads to now: itself, or the primary that a sentinel names."""
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
    """The same Redis with another of its databases."""
    return f"{url.rstrip('/')}/{number}"
