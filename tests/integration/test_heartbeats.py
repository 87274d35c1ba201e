"""Pings, and what becomes of those who do not answer."""

from __future__ import annotations

import time

from tests.integration.conftest import StartNode
from tests.support.client import connected
from tests.support.raw import CLOSE, PING, PONG, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until


async def test_a_client_that_answers_stays(start_node: StartNode) -> None:
    node = await start_node(ping_interval_seconds=0.2, pong_timeout_seconds=0.2)
    async with raw_client(node.url, make_token("u")) as client:
        for _ in range(6):
            client.send(PONG, (await client.next(PING)).payload)


async def test_a_client_that_does_not_answer_is_closed_when_its_time_is_over(
    start_node: StartNode,
) -> None:
    node = await start_node(ping_interval_seconds=0.3, pong_timeout_seconds=0.6)
    async with raw_client(node.url, make_token("u")) as client:
        await client.next(PING)
        asked = time.monotonic()
        closed = await client.next(CLOSE)
        assert closed.payload[:2] == (3008).to_bytes(2)
        assert time.monotonic() - asked >= 0.5
    await until(lambda: not node.gateway.hub.connections)
    assert node.gateway.stats.connections_closed["3008"] == 1


async def test_a_dead_clients_socket_and_place_are_given_up(start_node: StartNode) -> None:
    node = await start_node(
        ping_interval_seconds=0.1, pong_timeout_seconds=0.2, max_connections_per_user=1
    )
    async with raw_client(node.url, make_token("u")):
        # The client says nothing more, not even to the close frame.
        await until(lambda: node.gateway.stats.connections_closed["3008"] == 1)
        await until(lambda: not node.gateway.hub.connections)
        async with connected(node.url, make_token("u")):
            pass


async def test_pings_of_a_crowd_are_spread(start_node: StartNode) -> None:
    node = await start_node(ping_interval_seconds=1.0, max_connections_per_user=50)
    pinged: list[float] = []

    import asyncio

    async def listen() -> None:
        async with raw_client(node.url, make_token("u")) as client:
            await client.next(PING)
            pinged.append(time.monotonic())

    await asyncio.gather(*(listen() for _ in range(40)))
    assert max(pinged) - min(pinged) > 0.5
