"""A crowd that leaves at once gives all its places back, in a few writes, and whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from gateway.backplane.places import Places
from gateway.node.ports import Claim, Denied
from publisher import AsyncPublisher
from tests.support.client import connected
from tests.support.nodes import Node, running_node
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token
from tests.support.waiting import until
from tests.support.writes import calls_in_each_write

CROWD = [(f"u{number}", f"c{number}") for number in range(1_000)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that these tests may freeze."""
    server = RedisServer(tmp_path)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def crowded(server: RedisServer, prefix: str) -> AsyncIterator[Node]:
    """A node at which a crowd holds places."""
    async with running_node(server.url, prefix, redis_timeout_seconds=0.5) as node:
        for start in range(0, len(CROWD), 200):
            await asyncio.gather(
                *(held(node).acquire(Claim(*each)) for each in CROWD[start:][:200])
            )
        assert len(await places(server, prefix)) == len(CROWD)
        yield node


def held(node: Node) -> Places:
    return node.gateway.redis.places


def leave(node: Node) -> None:
    for user, connection in CROWD:
        held(node).give_back(user, connection)


async def places(server: RedisServer, prefix: str) -> list[bytes]:
    """The keys of users who hold a place."""
    async with redis.asyncio.Redis(port=server.port) as client:
        return [key async for key in client.scan_iter(f"{prefix}:conn:*", count=1_000)]


async def test_a_crowd_that_leaves_at_once_gives_its_places_back_in_few_writes(
    crowded: Node, server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = calls_in_each_write(crowded.gateway.redis.pipeline, monkeypatch)
    tasks = len(asyncio.all_tasks())
    leave(crowded)
    assert len(asyncio.all_tasks()) == tasks  # a departure costs none
    await until(lambda: not held(crowded).releases)
    assert await places(server, prefix) == []
    assert sum(sent) >= len(CROWD)
    assert len(sent) <= 10


async def test_places_are_given_back_once_redis_answers_again(
    crowded: Node, server: RedisServer, prefix: str
) -> None:
    server.freeze()
    leave(crowded)
    await until(lambda: held(crowded).releases._silent)
    assert len(held(crowded).releases) == len(CROWD)
    server.thaw()
    await until(lambda: not held(crowded).releases)
    assert await places(server, prefix) == []
    await until(crowded.gateway.ready)


async def test_who_leaves_while_redis_is_away_is_not_forgotten(
    crowded: Node, server: RedisServer, prefix: str
) -> None:
    server.freeze()
    held(crowded).give_back(*CROWD[0])
    await until(lambda: held(crowded).releases._silent)
    leave(crowded)
    server.thaw()
    await until(lambda: not held(crowded).releases)
    assert await places(server, prefix) == []


async def test_a_node_that_stops_gives_back_what_is_still_unreleased(
    crowded: Node, server: RedisServer, prefix: str
) -> None:
    leave(crowded)
    await crowded.gateway.stop()
    assert await places(server, prefix) == []


async def test_a_node_stops_also_when_redis_takes_nothing_back(
    crowded: Node, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.freeze()
    leave(crowded)
    with contextlib.ExitStack() as stack:
        stack.callback(server.thaw)
        await asyncio.wait_for(crowded.gateway.stop(), 8)
    assert "stop_incomplete step='give places back'" in caplog.text
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_who_comes_back_in_the_turn_of_leaving_finds_the_place_free(node: Node) -> None:
    taken = held(node)
    for number in range(5):
        assert await taken.acquire(Claim("u", f"c{number}")) is not Denied.FULL
    for number in range(5):
        taken.give_back("u", f"c{number}")
        assert await taken.acquire(Claim("u", f"d{number}")) is not Denied.FULL


async def test_a_departure_that_fails_gives_the_place_back_all_the_same(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(node.url, make_token("u")) as client:
        await client.subscribe("notifications/u")
        monkeypatch.setattr(node.gateway.delivery.heartbeats, "forget", None)

    async def free() -> bool:
        return await publisher.connections("u") == []

    await until(free)
    monkeypatch.undo()
    assert node.gateway.entrance.handshakes._admission._present == 0
    assert not node.gateway.hub.connections
