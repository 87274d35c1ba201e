"""What is kept for a connection that is idle, and for one that has ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from websockets.protocol import Protocol as Parser

from gateway.node.connection import Connection, Subscription
from gateway.web import tcp
from gateway.web.incoming_frames import Inbox
from gateway.web.new_connection import NewConnection
from gateway.web.socket import ClientSocket, Session
from publisher import AsyncPublisher
from tests.integration.conftest import StartNode
from tests.support.client_frames import PING, RSV1, client_frame, squeezed
from tests.support.nodes import Node
from tests.support.raw import CLOSE, PONG, TEXT, raw_client
from tests.support.raw import PING as PING_OPCODE
from tests.support.tokens import make_token
from tests.support.topology import ask_all
from tests.support.waiting import until

HEARTBEAT = b'{"type":"heartbeat"}'
CROWD = 50
CLIENTS = (ClientSocket, Session, Connection, Inbox, Parser, NewConnection)
KINDS = (*CLIENTS, Subscription)


Alive = Callable[..., list[str]]


@pytest.fixture
def alive() -> Alive:
    """The names of what has come to be of these kinds in this test, garbage included."""
    gc.collect()
    earlier = _all_of(KINDS)  # whoever holds something of another test does not matter here
    known = set(map(id, earlier))

    def names(*kinds: type) -> list[str]:
        assert earlier is not None
        return [type(each).__name__ for each in _all_of(kinds) if id(each) not in known]

    return names


def _all_of(kinds: tuple[type, ...]) -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is freed is freed because nobody refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_the_handshake_leaves_nothing_behind(node: Node, alive: Alive) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(CROWD):
            token = make_token(f"u{number}")
            client = await stack.enter_async_context(raw_client(node.url, token))
            assert await client.told() == "connected"
        assert len(node.gateway.hub.connections) == CROWD
        assert not node.new_connections
        gc.collect()
        assert not alive(NewConnection)
        assert len(alive(ClientSocket)) == CROWD


async def test_the_system_is_not_asked_what_an_idle_client_has_taken(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Counter[str]()
    ask = tcp.unacknowledged

    def note(transport: asyncio.BaseTransport) -> int:
        asked["untaken"] += 1
        return ask(transport)

    monkeypatch.setattr(tcp, "unacknowledged", note)
    node = await start_node(ping_interval_seconds=0.1, pong_timeout_seconds=5)
    async with raw_client(node.url, make_token("u")) as client:

        async def answer(pings: int) -> None:
            for _ in range(pings):
                client.send(PONG, (await client.next(PING_OPCODE)).payload)

        assert await client.told() == "connected"
        await answer(5)
        assert asked.total() == 1  # about the greeting
        client.send(TEXT, HEARTBEAT)
        assert await client.told() == "heartbeat"
        await answer(5)
        assert asked.total() == 2


SAID = {
    "nothing": b"",
    "a short frame": client_frame(TEXT, HEARTBEAT),
    "what takes a parser": client_frame(PING, b"1"),
    "a compressed message": client_frame(TEXT, squeezed(HEARTBEAT), reserved=RSV1),
    "half a frame": client_frame(PING, b"1") + client_frame(TEXT, bytes(100_000))[:-1],
    "a close": client_frame(CLOSE, b"\x03\xe8"),
    "a close after what takes a parser": client_frame(PING) + client_frame(CLOSE, b"\x03\xe8"),
    "reserved bits": client_frame(TEXT, HEARTBEAT, reserved=0x20),
}


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_a_connection_that_has_ended_is_freed_at_once(
    node: Node, alive: Alive, said: bytes
) -> None:
    for _ in range(5):
        async with raw_client(node.url, make_token("u"), "permessage-deflate") as client:
            assert await client.told() == "connected"
            client.writer.write(said)
            if said:
                await client.frame()
        await until(lambda: not node.gateway.hub.connections)
    await until(lambda: not alive(*CLIENTS))


@pytest.mark.usefixtures("no_collection")
async def test_one_that_ended_amid_a_subscribe_is_freed_at_once(
    node: Node, publisher: AsyncPublisher, alive: Alive
) -> None:
    """It was there until some collection, with the page of the log that was read for it."""
    channel = "notifications/u"
    request = json.dumps({"type": "subscribe", "channel": channel, "since": 0}).encode()
    connections = node.gateway.hub.connections
    for _ in range(5):
        async with raw_client(node.url, make_token("u")) as client:
            assert await client.told() == "connected"
            await ask_all(publisher._client, "CLIENT", "PAUSE", "200", "ALL")
            client.send(TEXT, request)
            await until(lambda: any(channel in each.subscriptions for each in connections.values()))
        await until(lambda: not connections)
    await until(lambda: not alive(*KINDS))
