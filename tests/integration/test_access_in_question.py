"""Nobody hears what is not theirs: whoever's access is in question hears nothing until Redis has answered."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from publisher import EVERYBODY, AsyncPublisher
from tests.faults.proxy import Greeting, Link, Proxy
from tests.support.client import Client, connected
from tests.support.nodes import Node, running_node
from tests.support.tokens import make_token
from tests.support.waiting import until

CHANNEL = "run-results/s"
LIVE = {"cursor": {"owner": "grant", "retention": None}}
SHORT = 2
"""Seconds of a grant that ends in a test: longer than anything that comes between two lines of it."""


@pytest.fixture
async def node(proxy: Proxy, prefix: str) -> AsyncIterator[Node]:
    """A node that reaches Redis through the proxy, and waits long for an answer."""
    url = f"redis://127.0.0.1:{proxy.port}"
    async with running_node(url, prefix, namespaces=LIVE, redis_timeout_seconds=30) as node:
        yield node


@contextlib.asynccontextmanager
async def clients(node: Node) -> AsyncIterator[tuple[Client, Client]]:
    """Of ``u``, whom a grant lets in, and of ``v``, whose token does."""
    async with (
        connected(node.url, make_token("u")) as granted,
        connected(node.url, make_token("v", ["run-results/*", "cursor/*"])) as named,
    ):
        yield granted, named


@contextlib.contextmanager
def unanswered(proxy: Proxy, node: Node) -> Iterator[None]:
    """Redis hears the node's questions, and its answers are on their way; live messages come."""
    link = questions(proxy, node)
    link.down.freeze()
    try:
        yield
    finally:
        link.down.thaw()


def questions(proxy: Proxy, node: Node) -> Link:
    """The connection on which the node asks about grants and reads logs."""
    commands = node.gateway.redis.pipeline._commands
    assert commands is not None
    return proxy.from_port(commands.transport.get_extra_info("sockname")[1])


@contextlib.asynccontextmanager
async def deaf(proxy: Proxy, node: Node) -> AsyncIterator[None]:
    """The node hears nothing live: its pub/sub connection is gone, and no other can be opened."""
    proxy.greeting = Greeting.SILENCE
    proxy.cut(lambda link: link.subscribed)
    await until(lambda: not node.gateway.redis.subscriber.connected)
    try:
        yield
    finally:
        proxy.greeting = Greeting.SERVE


async def test_a_revoked_user_hears_nothing_while_redis_does_not_answer_what_else_lets_them_in(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "u")
    async with clients(node) as (granted, named):
        await granted.subscribe(CHANNEL)
        await named.subscribe(CHANNEL)
        with unanswered(proxy, node):
            await publisher.revoke(CHANNEL, "u")
            await publisher.publish(CHANNEL, "not for u any more")
            assert await named.data(1) == ["not for u any more"]
            await granted.sync()
        await granted.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
        await granted.sync()


async def test_whom_another_grant_lets_in_gets_everything_once_and_in_order(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "u")
    await publisher.grant(CHANNEL, EVERYBODY)
    async with clients(node) as (granted, named):
        await granted.subscribe(CHANNEL)
        await named.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        assert await granted.data(1) == [0]
        with unanswered(proxy, node):
            await publisher.revoke(CHANNEL, EVERYBODY)
            for number in range(1, 4):
                await publisher.publish(CHANNEL, number)
            assert await named.data(4) == [0, 1, 2, 3]
            await granted.sync()
        await publisher.publish(CHANNEL, 4)
        assert await granted.data(4) == [1, 2, 3, 4]
        await granted.sync()


async def test_what_is_not_logged_is_dropped_meanwhile_and_counted(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant("cursor/1", "u")
    await publisher.grant("cursor/1", EVERYBODY)
    async with clients(node) as (granted, named):
        await granted.subscribe("cursor/1")
        await named.subscribe("cursor/1")
        with unanswered(proxy, node):
            await publisher.revoke("cursor/1", EVERYBODY)
            await publisher.publish("cursor/1", "dropped for u")
            assert await named.data(1) == ["dropped for u"]
        live = node.gateway.hub.channels["cursor/1"]
        await until(lambda: not live.away)
        await publisher.publish("cursor/1", "heard")
        assert await granted.data(1) == ["heard"]
        assert node.gateway.stats.messages_dropped == 1


async def test_a_grant_that_has_run_out_is_not_heard_while_redis_does_not_answer(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    async with clients(node) as (granted, named):
        await named.subscribe(CHANNEL)
        await publisher.grant(CHANNEL, "u", SHORT)
        await granted.subscribe(CHANNEL)
        link = questions(proxy, node)
        with unanswered(proxy, node):
            await until(lambda: not node.gateway.access.recheck._expiries._step_of)
            await publisher.publish(CHANNEL, "too late for u")
            assert await named.data(1) == ["too late for u"]
            await granted.sync()
            assert questions(proxy, node) is link
        await granted.expect(type="unsubscribed", channel=CHANNEL, reason="expired")
        await granted.sync()


async def test_a_revocation_that_a_node_did_not_hear_is_made_good_before_anything_is_delivered(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "u")
    await publisher.grant(CHANNEL, "w")
    async with (
        clients(node) as (revoked, named),
        connected(node.url, make_token("w")) as granted,
    ):
        for client in (revoked, named, granted):
            await client.subscribe(CHANNEL)
        await publisher.publish(CHANNEL, 0)
        for client in (revoked, named, granted):
            assert await client.data(1) == [0]
        async with deaf(proxy, node):
            await publisher.revoke(CHANNEL, "u")
            for number in range(1, 4):
                await publisher.publish(CHANNEL, number)
        await revoked.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
        assert await named.data(3) == [1, 2, 3]
        assert await granted.data(3) == [1, 2, 3]
        await publisher.publish(CHANNEL, 4)
        assert await named.data(1) == [4]
        assert await granted.data(1) == [4]
        for client in (revoked, named, granted):
            await client.sync()


async def test_what_comes_live_before_a_grant_has_been_checked_again_waits_for_that(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "u")
    await publisher.grant(CHANNEL, "w")
    async with (
        clients(node) as (revoked, named),
        connected(node.url, make_token("w")) as granted,
    ):
        for client in (revoked, named, granted):
            await client.subscribe(CHANNEL)
        async with deaf(proxy, node):
            await publisher.revoke(CHANNEL, "u")
            link = questions(proxy, node)
            link.down.freeze()
        # What comes before is held, and must be read from the log, which does not answer.
        await until(lambda: node.gateway.redis.subscriber.connected)
        await until(lambda: node.gateway.access.cut_off.settled)
        await publisher.publish(CHANNEL, 1)
        assert await named.data(1) == [1]
        await revoked.sync()
        await granted.sync()
        link.down.thaw()
        await revoked.expect(type="unsubscribed", channel=CHANNEL, reason="revoked")
        assert await granted.data(1) == [1]


async def test_nobody_is_let_in_by_a_grant_while_the_node_would_not_hear_it_revoked(
    proxy: Proxy, node: Node, publisher: AsyncPublisher
) -> None:
    await publisher.grant(CHANNEL, "u")
    async with clients(node) as (granted, named):
        await named.subscribe(CHANNEL)
        async with deaf(proxy, node):
            await granted.send({"type": "subscribe", "channel": CHANNEL})
            await granted.sync()
            await publisher.revoke(CHANNEL, "u")
            await publisher.publish(CHANNEL, "not for u any more")
        await granted.expect(type="error", code="forbidden", channel=CHANNEL)
        await granted.sync()
