"""``gateway load`` against gateways that are there, one of which loses messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from publisher import AsyncPublisher
from tests.processes.test_serve import run
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET


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
            await publisher.publish("notifications/load-0", {"run": "before", "n": 0})
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
        assert err == "gateway: token_invalid (1008): Authentication failed\n"
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
