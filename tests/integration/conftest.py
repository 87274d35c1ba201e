from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from pydantic import SecretStr

from gateway import redis_acl
from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.support import topology
from tests.support.api import Api, api_at, keys_in
from tests.support.nodes import Node, running_node
from tests.support.programs import cannot_run
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_users import as_user, user_of_line
from tests.support.waiting import until

StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """A call of the gateway's that blocks the event loop fails the test."""
    with blockbuster_ctx("gateway") as detector:
        # Reading /proc waits for nothing.
        for function in detector.functions.values():
            function.can_block_in("prometheus_client/process_collector.py", "collect")
        yield detector


@pytest.fixture
def ipv6() -> None:
    """For tests that need IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        cannot_run(f"this system has no IPv6: {error}")


@pytest.fixture
async def start_node(gateway_url: str, prefix: str) -> AsyncIterator[StartNode]:
    """Starts nodes that end with the test, each with the least rights in Redis."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: Any) -> Node:
            node = await stack.enter_async_context(running_node(gateway_url, prefix, **settings))
            # A node of a cluster waits only for a while for the last primary. When it hears that one it asks for its lease again.
            servers = node.gateway.redis.hearing.servers
            await until(lambda: all(servers().values()) and node.gateway.ready())
            return node

        yield start


@pytest.fixture
async def node(start_node: StartNode) -> Node:
    """A node with the default settings."""
    return await start_node()


@pytest.fixture
async def api_node(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Node]:
    """A node with the HTTP API, with the least rights in Redis of such a node."""
    url = as_user(redis_url, f"api-{prefix}")
    keys = SecretStr(f"@{keys_in(tmp_path)}")
    rooms = {"rooms": {"owner": "anyone", "presence": True}}
    line, _ = redis_acl.lines(url, None, prefix, api=True)
    with user_of_line(redis_url, line):
        async with running_node(url, prefix, api_port=0, api_keys=keys, namespaces=rooms) as node:
            yield node


@pytest.fixture
async def api(api_node: Node) -> AsyncIterator[Api]:
    """Its HTTP API."""
    async with api_at(api_node.api_url) as api:
        yield api


@pytest.fixture
async def publisher(
    redis_url: str, publisher_url: str, prefix: str
) -> AsyncIterator[AsyncPublisher]:
    """A publisher with the least rights; its ``_client`` has all, for tests that look at Redis itself."""
    async with (
        topology.looking_at_async(redis_url) as client,
        AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher,
    ):
        publisher._client = client  # type: ignore[attr-defined]
        yield publisher


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """The node's way to Redis."""
    topology.require_one_server("sentinels would lead past the proxy before it")
    proxy = Proxy(int(redis_url.rpartition(":")[2]))
    await proxy.start()
    async with contextlib.aclosing(proxy):
        yield proxy


@pytest.fixture
def cluster_options() -> dict[str, Any]:
    """How the ``cluster`` is made, for tests that want it otherwise."""
    return {}


@pytest.fixture
async def cluster(tmp_path: Path, cluster_options: dict[str, Any]) -> AsyncIterator[RedisCluster]:
    """A Redis Cluster of the test's own."""
    # In a thread: it blocks.
    context = redis_cluster(tmp_path, **cluster_options)
    cluster = await asyncio.to_thread(context.__enter__)
    try:
        yield cluster
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
