"""Failovers by Sentinel, under way: real servers, a live client, and publishers of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from publisher import AsyncPublisher, Publisher, Unavailable
from publisher.contract.channels import DEFAULT_NAMESPACES
from tests.support.client import Client, connected
from tests.support.nodes import Node, running_node
from tests.support.redis_server import free_port
from tests.support.sentinel_servers import SentinelServers, sentinel_servers
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
TOKEN = make_token("u")
PAUSE_SECONDS = 0.04
"""Between two messages of a publisher: the log has room for them all."""
READY_SECONDS = 3.0
"""From the moment at which the new primary says that it is one."""
SEEN_SECONDS = 2.5
"""Sentinel looks every second whether a replica has become the primary, and publishers ask it every second."""
PUBLISHING_SECONDS = 4.0
"""After a promotion: the old primary takes writes for longer."""


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[SentinelServers]:
    async with sentinel_servers(tmp_path, password="of-the-sentinels") as servers:
        yield servers


class Load:
    """Two publishers that say one number after the other, and when each was acknowledged."""

    def __init__(self, url: str, prefix: str) -> None:
        self._asyncio = AsyncPublisher.from_url(url, prefix=prefix)
        self._blocking = Publisher.from_url(url, prefix=prefix)
        self._over = threading.Event()
        self.acknowledged: dict[str, float] = {}
        self.failures: list[Unavailable] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        clock = asyncio.get_running_loop().time
        thread = asyncio.create_task(asyncio.to_thread(self._publish, clock))
        task = asyncio.create_task(self._publish_async(clock))
        try:
            yield
        finally:
            self._over.set()
            await asyncio.gather(thread, task)
            self._blocking.close()
            await self._asyncio.aclose()

    def _names(self, kind: str) -> Iterator[str]:
        number = 0
        while not self._over.wait(0):
            number += 1
            yield f"{kind} {number}"

    def _publish(self, clock: Callable[[], float]) -> None:
        for name in self._names("blocking"):
            try:
                self._blocking.publish(CHANNEL, name)
                self.acknowledged[name] = clock()
            except Unavailable as error:
                self.failures.append(error)
            self._over.wait(PAUSE_SECONDS)

    async def _publish_async(self, clock: Callable[[], float]) -> None:
        for name in self._names("asyncio"):
            try:
                await self._asyncio.publish(CHANNEL, name)
                self.acknowledged[name] = clock()
            except Unavailable as error:
                self.failures.append(error)
            await asyncio.sleep(PAUSE_SECONDS)


async def keep_reading(client: Client, received: list[Any]) -> None:
    while True:
        received.append(await client.receive())


async def survive(
    servers: SentinelServers, prefix: str, trouble: Callable[[], Awaitable[None]]
) -> None:
    """Go through ``trouble`` under load: nothing that the new primary has is missed, and no call fails."""
    load, received = Load(servers.url, prefix), []
    async with running_node(servers.url, prefix) as node, connected(node.url, TOKEN) as client:
        await client.subscribe(CHANNEL)
        reading = asyncio.create_task(keep_reading(client, received))
        async with load.running():
            await until(lambda: len(load.acknowledged) > 20)
            await trouble()
            promoted = await servers.promoted()
            await until(lambda: led_to(node) == servers.servers[1].port)
            await until(node.gateway.ready)
            assert asyncio.get_running_loop().time() - promoted < READY_SECONDS
            await asyncio.sleep(PUBLISHING_SECONDS)
        async with AsyncPublisher.from_url(servers.servers[1].url, prefix=prefix) as direct:
            await direct.publish(CHANNEL, "last")
            kept = [each.data for each in await direct.history(CHANNEL)]
        await until(lambda: any(each.get("data") == "last" for each in received))
        reading.cancel()
    messages = [each for each in received if each["type"] == "notifications"]
    assert set(kept) <= {each["data"] for each in messages}
    if not any(each.get("code") == "messages_lost" for each in received):
        ids = [each["id"] for each in messages]
        assert ids == sorted(set(ids))
    assert load.failures == []
    assert len(kept) < DEFAULT_NAMESPACES["notifications"].retention.max_messages
    # In a planned failover the old primary goes on taking writes for longer.
    late = {name for name, at in load.acknowledged.items() if at > promoted + SEEN_SECONDS}
    assert late
    assert late <= set(kept)


def led_to(node: Node) -> int:
    """The port of what the node takes for the primary."""
    host = node.gateway.redis.connections.primary._known.host
    assert host is not None
    return host[1]


async def test_a_primary_that_is_killed_is_followed(servers: SentinelServers, prefix: str) -> None:
    async def kill() -> None:
        servers.servers[0].kill()

    await survive(servers, prefix, kill)


async def test_a_planned_failover_is_followed_while_the_old_primary_still_takes_writes(
    servers: SentinelServers, prefix: str
) -> None:
    await survive(servers, prefix, servers.fail_over)


async def test_sentinels_that_do_not_tell_what_they_should_are_named_in_the_log_once(
    servers: SentinelServers, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    deaf, none = servers.sentinels[1], servers.servers[1]
    away = free_port()
    async with redis.asyncio.Redis(port=deaf.port, password="of-the-sentinels") as admin:
        await admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
    more = f"{servers.hosts},127.0.0.1:{none.port},127.0.0.1:{away}"
    async with running_node(servers.url.replace(servers.hosts, more), prefix) as node:
        await until(node.gateway.ready)
        for event, port in (
            ("sentinel_refused", deaf.port),
            ("sentinel_refused", none.port),
            ("sentinel_failed", away),
        ):
            start = f"{event} address=127.0.0.1:{port} reason="
            await until(
                lambda start=start: [each for each in caplog.messages if each.startswith(start)]
            )
    assert sum(each.startswith("sentinel_") for each in caplog.messages) == 3
