"""Strangers beside a client: whatever they send before a token, the client is served, and memory and log stay small."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from tests.support.client import Client, connected
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.requests import handshake, line, request
from tests.support.tokens import make_token

MIB = 2**20
MOST_SECONDS = 0.5
MOST_MEMORY = 48 * MIB
MOST_LOG_BYTES = 20_000


async def heartbeats(client: Client, times: list[float]) -> None:
    """Measure how long answers take, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        await client.sync()
        times.append(loop.time() - started)
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def bystander(node: GatewayProcess) -> AsyncIterator[None]:
    """A client that is there before, and whose heartbeats are answered all the time."""
    times: list[float] = []
    async with connected(node.url, make_token("bystander")) as client:
        beating = asyncio.create_task(heartbeats(client, times))
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
    times.sort()
    assert len(times) > 5
    print(f"bystander p99 {times[int(len(times) * 0.99)] * 1000:.0f} ms of {len(times)}")  # noqa: T201 - told with -s
    assert times[int(len(times) * 0.99)] <= MOST_SECONDS


async def one(url: str, data: bytes) -> None:
    """Send all of it, as far as the node takes it."""
    async with line(url, data) as each:
        with contextlib.suppress(ConnectionError):
            await each.writer.drain()
        await each.ended()


async def many(url: str, data: bytes, count: int, at_once: int = 20) -> None:
    for _ in range(count // at_once):
        await asyncio.gather(*(one(url, data) for _ in range(at_once)))


OTHER_VERSION = handshake("x").replace(b"Version: 13", b"Version: 12")

ATTACKS: dict[str, Callable[[str], Coroutine[None, None, None]]] = {
    "another version and 4 MB of zeros": lambda url: many(url, OTHER_VERSION + bytes(4 * MIB), 200),
    "a bad token and 4 MB of zeros": lambda url: many(url, handshake("x") + bytes(4 * MIB), 200),
    "no request": lambda url: many(url, b"\xff" * 1_000, 2_000, 100),
    "malformed requests": lambda url: many(url, request("GET / HTTP/1.1", "A b: c"), 2_000, 100),
    "long heads": lambda url: many(
        url, request("GET / HTTP/1.1", "A: " + "a" * 70_000), 1_000, 100
    ),
    "requests without an upgrade": lambda url: many(
        url, request("GET / HTTP/1.1", "Host: x"), 2_000, 100
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_stranger_costs_little_whatever_it_sends(
    redis_url: str, prefix: str, attack: Callable[[str], Coroutine[None, None, None]]
) -> None:
    async with gateway_process(redis_url, prefix) as node:
        async with bystander(node):
            before, logged = node.resident_bytes, len(node.output)
            await attack(node.url)
            grown = node.peak_bytes - before
            print(f"memory {grown / MIB:.1f} MiB, log {len(node.output) - logged} bytes")  # noqa: T201 - told with -s
            assert grown < MOST_MEMORY
            assert len(node.output) - logged < MOST_LOG_BYTES
            assert "Traceback" not in node.output
