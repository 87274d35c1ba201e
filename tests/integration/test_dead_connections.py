"""A user's own dead connections do not lock the user out, and no living one is taken for dead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core import closing
from gateway.node import life_checks
from gateway.web.admission import Admission
from publisher import AsyncPublisher
from publisher.contract.control import CheckPlaces
from publisher.contract.keys import Keys
from tests.faults.proxy import Proxy
from tests.integration.conftest import StartNode
from tests.support.client import Client, connected, opened
from tests.support.nodes import Node
from tests.support.raw import CLOSE, PING, TEXT, raw_client
from tests.support.tokens import make_token
from tests.support.waiting import until

TOKEN = make_token("u")
IN_SECONDS = 5.0
"""What the promise is: from the request of the new connection to its greeting."""
RTT = 2.0


@contextlib.asynccontextmanager
async def line_to(node: Node, delay: float = 0.0) -> AsyncIterator[Proxy]:
    """A network of its own between clients and a node, with a ``delay`` each way."""
    line = Proxy(int(node.url.rpartition(":")[2]), buffer=16 * 1024)
    line.up.delay = line.down.delay = delay
    await line.start()
    async with contextlib.aclosing(line):
        yield line


def url_of(line: Proxy) -> str:
    return f"ws://127.0.0.1:{line.port}"


def open_on(*nodes: Node) -> int:
    """Connections that are served: not those that are told that they are closed."""
    return sum(not each.closed for node in nodes for each in node.gateway.hub.connections.values())


async def come_in(stack: contextlib.AsyncExitStack, url: str, *nodes: Node) -> float:
    """Connect, and return how long it took; at no moment does the user hold more than five."""
    began = time.monotonic()
    client = await stack.enter_async_context(opened(url, TOKEN))
    await client.expect(type="connected")
    assert open_on(*nodes) <= 5
    return time.monotonic() - began


async def die(line: Proxy, stack: contextlib.AsyncExitStack, count: int) -> None:
    """Connect so many clients over a line, which then changes silently: neither end is told."""
    for _ in range(count):
        await stack.enter_async_context(connected(url_of(line), TOKEN))
    for link in line.links:
        link.vanish()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same node", "another node"])
async def test_three_tabs_are_back_within_five_seconds_after_one_silent_change_of_network(
    start_node: StartNode, elsewhere: bool
) -> None:
    first, second = await start_node(), await start_node()
    async with line_to(first) as line, contextlib.AsyncExitStack() as stack:
        await die(line, stack, 3)
        now = second if elsewhere else first
        took = await asyncio.gather(*(come_in(stack, now.url, first, second) for _ in range(3)))
        print("in after", took)  # noqa: T201 - told with -s
        assert max(took) < IN_SECONDS
        assert first.gateway.stats.connections_closed["3008"] == 3


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same node", "another node"])
async def test_one_tab_is_back_within_five_seconds_after_five_silent_changes_of_network(
    start_node: StartNode, elsewhere: bool
) -> None:
    first, second = await start_node(), await start_node()
    async with line_to(first) as line, contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await die(line, stack, 1)
        took = await come_in(stack, (second if elsewhere else first).url, first, second)
        print("in after", took)  # noqa: T201 - told with -s
        assert took < IN_SECONDS


@pytest.mark.parametrize("limit", [1, 5])
async def test_attempts_that_a_user_has_given_up_do_not_stand_in_the_way_of_the_next(
    start_node: StartNode, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is loaded again and again, while the last of its user's places is a dead connection's."""
    node = await start_node(max_connections_per_user=limit)
    asking: list[str] = []
    enter = Admission.enter

    async def noted(self: Admission, user: str, *how: Any) -> bool:
        asking.append(user)
        return await enter(self, user, *how)

    monkeypatch.setattr(Admission, "enter", noted)
    async with line_to(node) as line, contextlib.AsyncExitStack() as stack:
        for _ in range(limit - 1):
            await stack.enter_async_context(connected(node.url, TOKEN))
        await die(line, stack, 1)
        for _ in range(limit):
            asking.clear()
            attempt = asyncio.create_task(stack.enter_async_context(connected(node.url, TOKEN)))
            await until(lambda: asking)
            attempt.cancel()
            await asyncio.wait([attempt])
        assert await come_in(stack, node.url, node) < IN_SECONDS
        assert node.gateway.stats.connections_refused["connection_limit"] == 0


@pytest.mark.long
async def test_clients_on_a_line_with_a_round_trip_of_two_seconds_stay(
    start_node: StartNode,
) -> None:
    node, other = await start_node(), await start_node()
    async with (
        line_to(node, RTT / 2) as far,
        line_to(node) as near,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = await asyncio.gather(
            *(stack.enter_async_context(connected(url_of(far), TOKEN)) for _ in range(4))
        )
        await die(near, stack, 1)
        assert await come_in(stack, other.url, node, other) < IN_SECONDS
        # Now all five live.
        async with opened(other.url, TOKEN) as sixth:
            await sixth.expect(type="error", code="connection_limit")
        for client in clients:
            await client.sync()
        assert node.gateway.stats.connections_closed["3008"] == 1


async def test_the_sixth_of_five_living_is_refused_as_soon_as_all_have_answered(
    start_node: StartNode,
) -> None:
    nodes = [await start_node(), await start_node(), await start_node()]
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for number in range(5):
            url = nodes[number % 2].url
            clients.append(await stack.enter_async_context(connected(url, TOKEN)))
        for node in (nodes[0], nodes[2]):
            began = time.monotonic()
            async with opened(node.url, TOKEN) as sixth:
                await sixth.expect(type="error", code="connection_limit")
                assert await sixth.expect_close() == (1008, "connection_limit")
            print("refused after", time.monotonic() - began)  # noqa: T201 - told with -s
            assert time.monotonic() - began < life_checks.SILENT_SECONDS / 2
        for client in clients:
            await client.sync()


async def test_a_client_that_takes_a_large_message_is_not_taken_for_dead(
    start_node: StartNode, publisher: AsyncPublisher
) -> None:
    node = await start_node(max_connections_per_user=1)
    async with line_to(node) as line, connected(url_of(line), TOKEN) as slow:
        await slow.subscribe("notifications/u")
        line.down.bytes_per_second = 40_000
        await publisher.publish("notifications/u", "x" * 300_000)
        async with opened(node.url, TOKEN) as second:
            await second.expect(type="error", code="connection_limit")
        assert await slow.data(1) == ["x" * 300_000]
        await slow.sync()


async def test_a_client_whose_program_hangs_loses_its_place_to_one_that_lives(
    start_node: StartNode,
) -> None:
    """Its system still takes what it is sent."""
    node = await start_node(max_connections_per_user=1)
    async with raw_client(node.url, TOKEN) as hanging, contextlib.AsyncExitStack() as stack:
        assert await come_in(stack, node.url, node) < IN_SECONDS
        closed = await hanging.next(CLOSE)
        assert closed.payload == (3008).to_bytes(2) + b"pong_timeout"


async def test_a_client_that_sends_anything_keeps_its_place(start_node: StartNode) -> None:
    node = await start_node(max_connections_per_user=1)
    async with raw_client(node.url, TOKEN) as client:
        knocking = asyncio.create_task(refused(node))
        await client.next(PING)
        client.send(TEXT, b'{"type":"heartbeat"}')
        await knocking


async def refused(node: Node) -> None:
    async with opened(node.url, TOKEN) as client:
        await client.expect(type="error", code="connection_limit")


async def test_a_node_that_does_not_answer_delays_a_refusal_by_no_more_than_five_seconds(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an earlier version, or an answer that is lost."""
    node, other = await start_node(max_connections_per_user=1), await start_node()

    async def say_nothing(_command: CheckPlaces) -> None:
        pass

    monkeypatch.setattr(other.gateway.redis.places.checks, "_answer", say_nothing)
    async with connected(other.url, TOKEN) as client:
        began = time.monotonic()
        await refused(node)
        assert life_checks.SILENT_SECONDS < time.monotonic() - began < IN_SECONDS
        await client.sync()


async def test_a_node_whose_lease_ends_while_a_client_waits_gives_way_to_it_at_once(
    start_node: StartNode, publisher: AsyncPublisher, prefix: str
) -> None:
    """A node that was killed a moment ago counts as living, and answers nobody."""
    node = await start_node()
    keys, now = Keys(prefix), time.time() * 1000
    places = {f"killed/{number}": now + 60_000 for number in range(5)}
    await publisher._client.zadd(keys.connections("u"), places)
    await publisher._client.zadd(keys.nodes, {"killed": now + 1_500})
    async with opened(node.url, TOKEN) as client:
        await client.expect(type="connected")
    assert 1.0 < time.time() - now / 1000 < 3.5


async def test_whoever_knocks_again_and_again_at_the_limit_draws_few_pings(
    start_node: StartNode,
) -> None:
    nodes = [await start_node(max_connections_per_user=1) for _ in range(2)]
    async with raw_client(nodes[0].url, TOKEN) as client:
        pings = 0

        async def answer() -> None:
            nonlocal pings
            while True:
                client.send(0xA, (await client.next(PING)).payload)
                pings += 1

        answering = asyncio.create_task(answer())
        began = time.monotonic()
        for number in range(40):
            await refused(nodes[number % 2])
        seconds = time.monotonic() - began
        answering.cancel()
        print("pings", pings, "in", seconds)  # noqa: T201 - told with -s
        assert 1 <= pings <= 1 + seconds


async def test_a_place_of_a_connection_that_is_being_closed_is_free_when_it_is_wanted(
    start_node: StartNode,
) -> None:
    """Its client has five seconds to answer the close frame, and may be gone."""
    node = await start_node(max_connections_per_user=1)
    async with raw_client(node.url, TOKEN), contextlib.AsyncExitStack() as stack:
        await until(lambda: node.gateway.hub.connections)
        [connection] = node.gateway.hub.connections.values()
        node.gateway.hub.close(connection, closing.FLOOD)
        assert await come_in(stack, node.url, node) < life_checks.SILENT_SECONDS / 2
