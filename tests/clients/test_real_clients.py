"""Whatever library a client is made of, it gets what the protocol promises."""

from __future__ import annotations

from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import pytest

from publisher import AsyncPublisher
from tests.clients import toolchains
from tests.clients.client_program import ClientProgram
from tests.clients.conftest import Start, UntilConfirmed
from tests.clients.real_clients import RealClient
from tests.clients.wire import Frame, Wire
from tests.support.client_frames import PING, PONG, TEXT
from tests.support.nodes import Node, running_node
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(toolchains.SECONDS)

CHANNEL = "notifications/u"
LARGE = "".join(f"{number:06}" for number in range(30_000))


async def test_live_messages_come_and_after_a_reconnect_what_was_missed(
    node: Node, publisher: AsyncPublisher, start: Start, until_confirmed: UntilConfirmed
) -> None:
    client = await start(node.url, "u")
    await client.expect(type="connected", userId="u")
    await client.subscribe(CHANNEL)
    live = await publisher.publish(CHANNEL, {"title": "新的访问请求"})
    await client.expect(
        type="notifications", channel=CHANNEL, id=live.id, data={"title": "新的访问请求"}
    )
    await until_confirmed("u", live.id)
    assert await client.close() == (1000, "")
    missed = [(await publisher.publish(CHANNEL, number)).id for number in range(3)]
    client = await start(node.url, "u")
    await client.expect(type="connected")
    await client.subscribe(CHANNEL)
    assert [(await client.receive())["id"] for _ in missed] == missed
    await publisher.publish(CHANNEL, "live again")
    await client.expect(data="live again")
    await client.sync()


async def test_large_messages_are_whole_in_both_directions_and_compressed_if_the_client_can(
    client: RealClient, node: Node, publisher: AsyncPublisher, start: Start
) -> None:
    wire = Wire()
    async with wire.to(urlsplit(node.url).port or 0) as address:
        program = await start(address, "u")
        await program.expect(type="connected")
        await program.subscribe(CHANNEL)
        for data in (LARGE, "small", LARGE):
            await publisher.publish(CHANNEL, data)
            await program.expect(data=data)
        for _ in range(2):
            await program.sync(padding=LARGE[:12_000])
        await program.send({"type": "subscribe", "channel": "x" * 12_000})
        await program.expect(type="error", code="invalid_channel", channel="x" * 1024)
        assert compressed(wire.from_server) == client.receives_compressed
        assert compressed(wire.from_client) == client.sends_compressed
        assert await program.close() == (1000, "")


def compressed(frames: list[Frame]) -> bool:
    """Whether large messages are, which all large ones must agree about."""
    texts = [frame for frame in frames if frame.opcode == TEXT]
    marked = [frame for frame in texts if frame.compressed]
    large = [frame for frame in texts if frame.size > 2_000 or frame in marked]
    assert len(large) >= 2
    return large == marked


async def test_mistakes_are_answered_and_pings_keep_the_connection(
    node: Node, start: Start
) -> None:
    wire = Wire()
    async with wire.to(urlsplit(node.url).port or 0) as address:
        program = await start(address, "u")
        await program.expect(type="connected")
        await program.send("no JSON")
        await program.expect(type="error", code="invalid_message")
        await program.send({"type": "subscribe", "channel": "notifications/v"})
        await program.expect(type="error", code="forbidden", channel="notifications/v")
        await until(lambda: count(wire.from_client, PONG) >= 4)
        await program.sync()
        assert count(wire.from_server, PING) >= count(wire.from_client, PONG)
        assert await program.close() == (1000, "")


def count(frames: list[Frame], opcode: int) -> int:
    return sum(frame.opcode == opcode for frame in frames)


async def test_a_client_is_told_that_its_node_shuts_down(
    gateway_url: str, prefix: str, start: Start
) -> None:
    async with running_node(gateway_url, prefix) as node:
        client = await start(node.url, "u")
        await client.expect(type="connected")
    assert await client.closed() == (1001, "draining")


async def test_one_connection_too_many_is_told_why_before_its_end(
    gateway_url: str, prefix: str, start: Start
) -> None:
    async with running_node(gateway_url, prefix, max_connections_per_user=1) as node:
        first = await start(node.url, "u")
        await first.expect(type="connected")
        second = await start(node.url, "u")
        await second.expect(type="error", code="connection_limit")
        assert await second.closed() == (1008, "connection_limit")
        await first.sync()


async def test_messages_that_come_together_are_one_array_for_who_asks(
    node: Node, publisher: AsyncPublisher, start: Start
) -> None:
    client = await start(node.url, "u", "&batch=true")
    await publisher.publish_many((CHANNEL, number) for number in range(50))
    await client.expect(type="connected")
    await client.send({"type": "subscribe", "channel": CHANNEL})
    frames = [await messages(client)]
    while len(list(chain(*frames))) < 51:
        frames.append(await messages(client))
    subscribed, *data = chain(*frames)
    assert subscribed["type"] == "subscribed"
    assert [message["data"] for message in data] == list(range(50))
    assert max(map(len, frames)) > 1


async def messages(client: ClientProgram) -> list[Any]:
    """The messages of the next frame."""
    frame = await client.receive()
    return frame if isinstance(frame, list) else [frame]
