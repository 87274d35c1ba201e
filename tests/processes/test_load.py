"""``gateway load`` against gateways that are there, one of which loses messages."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import pytest

from publisher import AsyncPublisher
from tests.processes.test_serve import run
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET
from tests.support.waiting import until


async def load(url: str, redis_url: str, prefix: str, *arguments: str) -> tuple[int, str, str]:
    return await run(
        *("load", "--url", url, "--connections", "20", "--rate", "200", "--seconds", "1"),
        *arguments,
        GATEWAY_REDIS_URL=redis_url,
        GATEWAY_REDIS_PREFIX=prefix,
        GATEWAY_JWT_SECRET=SECRET,
    )


async def test_everything_arrives_and_nothing_of_the_run_before_counts(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix) as node:
        async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
            await publisher.publish("notifications/gateway-load-0", {"run": "before", "n": 0})
        code, out, err = await load(node.url, redis_url, prefix, "--json")
        assert (code, err) == (0, "")
        told: dict[str, Any] = json.loads(out)
        assert told["connections"] == 20
        assert told["messages"] == {
            "published": 200,
            "failed": 0,
            "received": 200,
            "lost": 0,
            "repeated": 0,
            "losses_told": 0,
        }
        latency = told["latency_ms"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]


async def test_nothing_is_left_of_the_messages_and_nothing_of_others_is_touched(
    redis_url: str, prefix: str
) -> None:
    async with (
        gateway_process(redis_url, prefix) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        for user in ("gateway-load-0", "ann"):
            await publisher.publish(f"notifications/{user}", "of somebody else")
        code, _, _ = await load(node.url, redis_url, prefix)
        assert code == 0
        for user, left in (("gateway-load-0", 1), ("gateway-load-1", 0), ("ann", 1)):
            assert len(await publisher.history(f"notifications/{user}")) == left


async def test_nothing_is_left_of_a_run_that_is_broken_off(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix) as node,
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
    ):
        settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": prefix, "JWT_SECRET": SECRET}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "load", "--url", node.url, "--seconds", "60"),
            env=os.environ | {f"GATEWAY_{name}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        channel = "notifications/gateway-load-0"

        async def left() -> int:
            return len(await publisher.history(channel))

        await until(left)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.wait()
        assert await left() == 0


async def test_people_read_a_line_for_each_thing(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix) as node:
        code, out, _ = await load(node.url, redis_url, prefix)
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == [
            "connections",
            "published",
            "received",
            "latency",
        ]


async def test_what_is_lost_is_told_and_is_a_status(redis_url: str, prefix: str) -> None:
    """The publisher of another prefix: these gateways never hear of its messages."""
    async with gateway_process(redis_url, prefix) as node:
        code, out, _ = await load(
            node.url, redis_url, f"{prefix}elsewhere", "--json", "--patience", "0.2"
        )
        assert code == 1
        told = json.loads(out)["messages"]
        assert (told["published"], told["received"], told["lost"]) == (200, 0, 200)


async def test_what_cannot_be_done_is_told(redis_url: str, prefix: str) -> None:
    async with gateway_process(redis_url, prefix, jwt_secret=f"another one than {SECRET}") as node:
        code, out, err = await load(node.url, redis_url, prefix)
        assert (code, out) == (1, "")
        assert err == "gateway: token_invalid (1008): Authentication failed: get a new token\n"
        nobody = f"redis://127.0.0.1:{free_port()}"
        code, out, err = await load(node.url, nobody, prefix)
        assert (code, out) == (1, "")
        assert "127.0.0.1" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--connections", "0"), "--connections must be 1 to"),
        (("--rate", "0"), "--rate must be"),
        (("--seconds", "nan"), "--seconds must be"),
        (("--message-bytes", "-1"), "--message-bytes must be"),
        (("--url", "http://127.0.0.1"), "the URL must be ws://"),
    ],
)
async def test_a_mistake_in_the_command_is_told(
    redis_url: str, prefix: str, arguments: tuple[str, str], told: str
) -> None:
    code, _, err = await load("ws://127.0.0.1:1", redis_url, prefix, *arguments)
    assert code == 2
    assert told in err
