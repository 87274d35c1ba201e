"""A burst to many who keep up: written over several turns, and read from Redis no faster than that."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.node import outboxes
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.tokens import make_token

CHANNEL = "run-results/all"
CLIENTS = 40
COUNT = 1_500
BODY = "x" * 1_000
ONE_READ = 256 * 1024
"""What comes from Redis at once, at most."""


async def test_who_keeps_up_has_all_of_a_burst_live_and_little_waits_meanwhile(
    start_node: StartNode, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "BYTES_PER_TURN", 256 * 1024)
    node = await start_node()
    hub = node.gateway.hub
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            waiting = {id(each.outbox): len(each.outbox) for each in hub.connections.values()}
            most = max(most, sum(waiting.values()))
            await asyncio.sleep(0)

    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                connected(node.url, make_token(f"u{number}", [CHANNEL]))
            )
            for number in range(CLIENTS)
        ]
        for client in clients:
            await client.subscribe(CHANNEL)
        watching = asyncio.create_task(watch())
        readers = [asyncio.create_task(client.data(COUNT)) for client in clients]
        await publisher.publish_many((CHANNEL, [number, BODY]) for number in range(COUNT))
        for reader in readers:
            assert [number for number, _ in await reader] == list(range(COUNT))
        watching.cancel()
    assert node.gateway.stats.messages_replayed == 0
    # What one read brings, once for all but the few that were sent something of their own meanwhile.
    assert most < CLIENTS / 4 * ONE_READ
