"""Brings a world up, and ends it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.settings import Settings
from publisher import AsyncPublisher
from tests.faults.logs import OwnLog
from tests.faults.more_load import SETTINGS, MoreLoad
from tests.faults.node import running_nodes
from tests.faults.redis_servers import redis_servers
from tests.faults.world import Load, World
from tests.support.api import keys_in


@contextlib.asynccontextmanager
async def running_world(
    folder: Path,
    seed: int,
    *,
    nodes: int = 2,
    replicated: bool = False,
    load: Load | None = None,
    before: Callable[[list[int]], AbstractAsyncContextManager[str]] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """A deployment under load until the block ends; whatever error leaves it tells the seed.

    Args:
        replicated: whether a single Redis has a replica that can take over.
        before: what stands before the nodes in place of ``front``; it is told their ports, and tells
            what clients connect to.
        settings: of the nodes.
    """
    servers = redis_servers(folder, replicated=replicated)
    prefix = f"t{secrets.token_hex(6)}"
    async with contextlib.AsyncExitStack() as stack:
        own_log = stack.enter_context(OwnLog())
        stack.push_async_callback(servers.aclose)
        await servers.start()
        world = World(seed, prefix, folder, servers, load or Load())
        world.trace.log_lines = own_log.found
        world.trace.unnoticed_seconds = _unnoticed(settings)
        stack.push_async_callback(world.process.stop)
        try:
            world.nodes = await stack.enter_async_context(
                running_nodes(nodes, servers, prefix, **_further(world.load, folder), **settings)
            )
            world.front.targets = [node.port for node in world.nodes]
            for proxy in (world.front, world.backend):
                await proxy.start()
                stack.push_async_callback(proxy.aclose)
            publishers = await _publishers(stack, world)
            connector = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            stack.push_async_callback(world.aclose)
            url = f"ws://127.0.0.1:{world.front.port}"
            if before is not None:
                ports = [node.port for node in world.nodes]
                url = await stack.enter_async_context(before(ports))
            await world.begin(session, *publishers, url)
            if world.load.more:
                await MoreLoad(world, session, publishers[0], url).begin()
            yield world
        except BaseException as error:
            error.add_note(f"To do the same again: FAULTS_SEED={seed}")
            raise


def _further(load: Load, folder: Path) -> dict[str, Any]:
    return {**SETTINGS, "api_keys": f"@{keys_in(folder)}"} if load.more else {}


def _unnoticed(settings: dict[str, Any]) -> float:
    """Until a ping is sent, until its pong had to be there, and some more for the machine."""
    defaults = Settings.model_fields
    pauses = ("ping_interval_seconds", "pong_timeout_seconds")
    return sum(float(settings.get(each, defaults[each].default)) for each in pauses) + 5


async def _publishers(stack: contextlib.AsyncExitStack, w: World) -> list[AsyncPublisher]:
    """One that tries again by itself, and one that does not."""
    url = w.redis.url(w.backend)
    return [
        await stack.enter_async_context(
            AsyncPublisher.from_url(url, prefix=w.prefix, timeout=1.0, retries=retries)
        )
        for retries in (3, 0)
    ]
