"""Every line that a gateway writes is a line of the format that was asked for, whatever has happened to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.client import connected, opened
from tests.support.log_lines import read_logfmt
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token
from tests.support.waiting import until

READERS = {"logfmt": read_logfmt, "json": json.loads}

ODD_USERS = (
    "new\nline",
    'o\'brien "jr"',
    "CN=Ann, OU=Staff",
    "level=error event=forged",
    "张三",
    "\u2028",
)
ODD_ORIGIN = 'https://evil.example "a" level=error'


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


async def make_noise(node: GatewayProcess, server: RedisServer) -> None:
    """Have it log what it can: odd users, refusals, mistakes, a Redis that goes away, an end."""
    for user in ODD_USERS:
        async with connected(node.url, make_token(user)) as client:
            await client.send({"type": "refresh", "token": "nonsense"})
            await client.expect(code="token_invalid")
    async with opened(node.url, "nonsense") as client:
        await client.expect(code="token_invalid")
    async with opened(node.url, make_token("u", exp=1)) as client:
        await client.expect(code="token_expired")
    await send(node.port, f"Origin: {ODD_ORIGIN}")
    await send(node.port, "no header at all")
    await asyncio.to_thread(server.kill)
    await until(lambda: not_ready(node))
    await asyncio.to_thread(server.restart)
    await until(node.is_ready, 20)
    async with connected(node.url, make_token("last")):
        assert await node.terminate() == 0


async def not_ready(node: GatewayProcess) -> bool:
    return not await node.is_ready()


async def send(port: int, header: str) -> None:
    """Ask for an upgrade with one more header, and wait for the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{header}\r\n\r\n".encode()
    )
    assert await reader.read(1)
    writer.close()


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("workers", [1, 2])
async def test_every_line_of_a_noisy_gateway_is_of_the_format(
    form: str, workers: int, server: RedisServer, prefix: str
) -> None:
    started = datetime.now(UTC)
    async with gateway_process(
        server.url,
        prefix,
        workers=workers,
        log_level="debug",
        log_format=form,
        allowed_origins="https://school.example",
        no_such_setting="it is advised about",
        drain_seconds=0.2,
    ) as node:
        await make_noise(node, server)
        lines = [READERS[form](line) for line in node.output.splitlines()]
    for fields in lines:
        assert list(fields)[:4] == ["time", "level", "logger", "event"]
        assert fields["level"] in {"debug", "info", "warning"}, fields
        at = datetime.fromisoformat(fields["time"])
        assert started - timedelta(seconds=1) < at < started + timedelta(minutes=2)
    events = {fields["event"] for fields in lines}
    assert events >= {
        *("setting_doubtful", "node_started", "connection_opened", "refresh_rejected"),
        *("connection_refused", "subscriber_lost", "drain_started", "node_stopped"),
    }
    # Whatever a name holds, it is one field, and the very name.
    users = {each["user"] for each in lines if each["event"] == "connection_opened"}
    assert users == {*ODD_USERS, "last"}
    assert ODD_ORIGIN in {each.get("origin") for each in lines}
    of_workers = {str(each.get("worker")) for each in lines if each["event"] == "node_started"}
    assert of_workers == ({"None"} if workers == 1 else {"1", "2"})


async def test_the_log_is_logfmt_unless_told_otherwise(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix) as node:
        assert await node.terminate() == 0
        events = [read_logfmt(line)["event"] for line in node.output.splitlines()]
    assert events[-1] == "node_stopped"
    # Nobody has said which pages may connect.
    assert events.count("setting_doubtful") == 1
