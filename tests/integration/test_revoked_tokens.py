"""Whoever has a token that was revoked takes nothing from its user, at whichever door."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.node.ports import Claim, Entry
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.event_stream import address, ask, event_stream, request, say
from tests.support.nodes import Node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "notifications/u"
TOKEN = make_token("u", jti="own")
STOLEN = make_token("u", jti="stolen")
HEARTBEAT = b'{"type":"heartbeat"}'
UNFINISHED = {"Content_Type": "application/json", "Content_Length": str(len(HEARTBEAT))}
"""Of a request whose body is not sent with it."""


@pytest.fixture
async def thief(publisher: AsyncPublisher) -> AsyncIterator[Thief]:
    await publisher.revoke_token("stolen", time.time() + 600)
    async with contextlib.AsyncExitStack() as stack:
        yield Thief(stack)


class Thief:
    """Has the token, and closes no connection."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    async def ask(self, node: Node, *what: str, **fields: str) -> int:
        _, writer, answer = await request(node.url, *what, **fields)
        self._stack.callback(writer.close)
        return answer.status


async def begun_poll(node: Node) -> str:
    """The name of polls of the user."""
    first = await ask(node.url, address("/poll", TOKEN, [CHANNEL], wait="0"))
    return str(first.json[0]["poll"])


async def test_bodies_that_never_come_leave_room_for_what_the_user_says(
    node: Node, thief: Thief
) -> None:
    async with event_stream(node.url, TOKEN, CHANNEL) as stream:
        for name in (stream.name, stream.name[:8] + "0" * 32):
            target = address(f"/sse/{name}", STOLEN)
            asked = [thief.ask(node, target, "POST", **UNFINISHED) for _ in range(20)]
            assert set(await asyncio.gather(*asked)) == {401}
            assert (await say(node.url, stream.name, {"type": "heartbeat"}, TOKEN)).status == 202


async def test_polls_that_are_refused_and_not_closed_leave_room_for_the_users(
    node: Node, thief: Thief
) -> None:
    name = await begun_poll(node)
    asked = [
        thief.ask(node, address("/poll", STOLEN, [CHANNEL], poll=name, wait="0")) for _ in range(20)
    ]
    assert set(await asyncio.gather(*asked)) == {401}
    again = await ask(node.url, address("/poll", TOKEN, [CHANNEL], poll=name, wait="0"))
    assert again.status == 200
    await begun_poll(node)


async def test_a_token_that_is_known_to_be_revoked_is_refused_at_once(
    node: Node, publisher: AsyncPublisher, thief: Thief, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a question to Redis, so no attempts are under way that would count as the user's. Another token is another one."""
    name = await begun_poll(node)
    posted = address(f"/poll/{name}", STOLEN)
    assert await thief.ask(node, posted, "POST", **UNFINISHED) == 401
    asked: list[str | None] = []
    places, tokens = node.gateway.redis.places, node.gateway.access.revocations._tokens
    acquire, look_up = places.acquire, tokens.look_up

    async def acquires(claim: Claim, *how: Any) -> Entry:
        asked.append(claim.token_id)
        return await acquire(claim, *how)

    async def looks_up(user: str, digest: str | None) -> tuple[float | None, bool]:
        asked.append(digest)
        return await look_up(user, digest)

    monkeypatch.setattr(places, "acquire", acquires)
    monkeypatch.setattr(tokens, "look_up", looks_up)
    assert await thief.ask(node, posted, "POST", **UNFINISHED) == 401
    assert await thief.ask(node, address(f"/poll/{name}", STOLEN), "DELETE") == 401
    assert await thief.ask(node, address("/poll", STOLEN, [CHANNEL], poll=name)) == 401
    assert await thief.ask(node, address("/poll", STOLEN, [CHANNEL])) == 401
    assert await thief.ask(node, address("/sse", STOLEN, [CHANNEL])) == 401
    async with opened(node.url, STOLEN) as client:
        await client.expect(type="error", code="token_revoked")
        assert await client.expect_close() == (1008, "token_revoked")
    assert asked == []
    async with connected(node.url, make_token("u", jti="another")):
        assert asked == ["another"]


async def test_a_handshake_too_makes_known_that_its_token_is_revoked(
    node: Node, thief: Thief, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(node.url, STOLEN) as client:
        await client.expect(type="error", code="token_revoked")
    monkeypatch.setattr(node.gateway.redis.places, "acquire", None)
    assert await thief.ask(node, address("/sse", STOLEN, [CHANNEL])) == 401


async def test_nobody_gives_way_to_a_token_that_is_revoked(
    start_node: StartNode, thief: Thief
) -> None:
    node = await start_node(connection_limit_policy="replace_oldest", max_connections_per_user=1)
    async with connected(node.url, TOKEN) as client:
        assert await thief.ask(node, address("/sse", STOLEN, [CHANNEL])) == 401
        await client.sync()


async def test_what_is_said_counts_only_if_its_token_is_good_when_all_of_it_is_here(
    node: Node, publisher: AsyncPublisher
) -> None:
    later = make_token("u", jti="later")
    streams = node.gateway.entrance.client_port._streams
    assert streams is not None
    name = await begun_poll(node)
    target = address(f"/poll/{name}", later)
    invited = await request(node.url, target, "POST", Expect="100-continue", **UNFINISHED)
    reader, writer, answer = invited
    assert answer.status == 100
    mark = streams._routing.mark
    await publisher.revoke_token("later", time.time() + 600)
    await until(lambda: streams._routing.mark > mark)
    writer.write(HEARTBEAT)
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_what_is_refused_does_not_count_towards_what_its_user_may_do(
    node: Node, publisher: AsyncPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrance = node.gateway.entrance
    monkeypatch.setattr(entrance.handshakes._admission._begun._quota, "_most", 2)
    monkeypatch.setattr(entrance.client_port._streams._quota._quota, "_most", 2)
    token, stolen = make_token("u"), make_token("u", jti="stolen")
    first = await ask(node.url, address("/poll", token, [CHANNEL], wait="0"))
    begun = first.json[0]["poll"]
    await publisher.revoke_token("stolen", time.time() + 600)
    for _ in range(5):
        assert (await ask(node.url, address("/sse", stolen, [CHANNEL]))).status == 401
        again = await ask(node.url, address("/poll", stolen, poll=begun, wait="0"))
        assert again.status == 401
    async with connected(node.url, token):
        pass
    again = await ask(node.url, address("/poll", token, poll=begun, wait="0"))
    assert again.status == 200
