"""A node's calls to the primaries of a cluster, where those answer what a real one does for a moment only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count

import pytest

from gateway.backplane.redis_connections import ClusterConnections
from gateway.node.stats import Stats
from publisher.contract.calls import Call
from publisher.contract.scripts import GRANTED
from publisher.errors import Unavailable
from publisher.transport.cluster import SLOTS, slot_of
from publisher.transport.topology import asyncio_topology
from tests.support.redis_server import free_port
from tests.support.scripted_servers import OK, ScriptedServer, share, two_servers
from tests.support.waiting import until

SECONDS = 1.0
MIDDLE = SLOTS // 2
LOW = next(key for key in map("k{}".format, count()) if slot_of(key) < MIDDLE)
HIGH = next(key for key in map("k{}".format, count()) if slot_of(key) >= MIDDLE)
"""Keys of the first and of the second server."""

TRYAGAIN = b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"


def led(kind: str, to: ScriptedServer, key: str = LOW) -> bytes:
    return f"-{kind} {slot_of(key)} 127.0.0.1:{to.host[1]}\r\n".encode()


def made(*ports: int) -> ClusterConnections:
    topology = asyncio_topology("redis+cluster://" + ",".join(f"127.0.0.1:{p}" for p in ports))
    assert topology.cluster is not None
    return ClusterConnections(topology.cluster, Stats(), SECONDS)


@contextlib.asynccontextmanager
async def looking(connections: ClusterConnections) -> AsyncIterator[None]:
    task = asyncio.create_task(connections.map.run(lambda: ()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connections.aclose()
        assert tasks_left() == []


def tasks_left() -> list[str]:
    """The tasks of connections to Redis."""
    return [
        each.get_name()
        for each in asyncio.all_tasks()
        if each.get_name() in ("redis commands", "close a connection")
    ]


@pytest.fixture
async def servers() -> AsyncIterator[tuple[ScriptedServer, ScriptedServer]]:
    async with two_servers() as servers:
        yield servers


@pytest.fixture
async def connections(
    servers: tuple[ScriptedServer, ScriptedServer],
) -> AsyncIterator[ClusterConnections]:
    connections = made(servers[0].host[1], servers[1].host[1])
    async with looking(connections):
        await connections.map.asked
        yield connections


async def get(connections: ClusterConnections, key: str = LOW) -> object:
    return await connections.calls.call(Call(("GET", key)))


Pair = tuple[ScriptedServer, ScriptedServer]


async def test_ask_is_followed_this_once_and_teaches_nothing(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    first.answer = lambda _command, _asking: led("ASK", second)
    second.answer = lambda _command, asking: b":7\r\n" if asking else led("MOVED", first)
    for _ in range(2):
        assert await get(connections) == 7
    assert len(first.heard) == 2
    assert second.heard == 2 * [[b"ASKING"], [b"GET", LOW.encode()]]
    assert connections.map.known.owner(LOW) == first.host


async def test_a_script_that_is_not_known_where_ask_leads_is_asked_for_there_as_a_whole(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    known = False

    def answer(command: list[bytes], asking: bool) -> bytes:
        nonlocal known
        known = known or (asking and command[0] == b"EVAL")
        if not asking:
            return led("MOVED", first)
        return b":7\r\n" if known else b"-NOSCRIPT No matching script\r\n"

    first.answer = lambda _command, _asking: led("ASK", second)
    second.answer = answer
    assert await connections.calls.call(Call.run(GRANTED, [LOW], "u")) == 7


async def test_a_call_whose_keys_are_on_their_way_is_repeated_until_they_have_arrived(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, _ = servers
    first.answer = lambda _command, _asking: TRYAGAIN if len(first.heard) < 5 else b":7\r\n"
    began = asyncio.get_running_loop().time()
    assert await get(connections) == 7
    # With a rest before each.
    assert asyncio.get_running_loop().time() - began > 4 * 0.045
    await until(lambda: not connections.calls._redirects)


async def test_that_a_server_reads_its_file_after_a_start_is_no_error_in_the_log(
    servers: Pair, connections: ClusterConnections, caplog: pytest.LogCaptureFixture
) -> None:
    for answer, level in ((b"-LOADING reads\r\n", "WARNING"), (b"-OOM full\r\n", "ERROR")):
        servers[0].answer = lambda _command, _asking, answer=answer: answer
        caplog.clear()
        with pytest.raises(Unavailable):
            await get(connections)
        [told] = [each for each in caplog.records if "redis_error" in each.getMessage()]
        assert told.levelname == level


async def test_its_repetitions_end_with_its_time(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, _ = servers
    first.answer = lambda _command, _asking: TRYAGAIN
    with pytest.raises(Unavailable, match="being moved") as caught:
        await get(connections)
    assert not caught.value.maybe_sent
    assert 5 < len(first.heard) < SECONDS / 0.04


async def test_a_call_is_led_on_however_often_its_keys_were_on_their_way(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    first.answer = lambda *_: TRYAGAIN if len(first.heard) < 6 else led("ASK", second)
    second.answer = lambda _command, asking: b":7\r\n" if asking else led("MOVED", first)
    assert await get(connections) == 7


async def test_a_call_that_is_led_on_late_has_no_more_time_for_that(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    clock = asyncio.get_running_loop().time
    began = clock()
    first.answer = lambda *_: TRYAGAIN if clock() - began < SECONDS / 2 else led("ASK", second)
    second.answer = lambda _command, _asking: None
    with pytest.raises(Unavailable):
        await get(connections)
    assert clock() - began < 1.25 * SECONDS


async def test_moved_is_learnt_at_once_and_the_map_is_asked_for(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    asked = first.asked + second.asked
    first.answer = lambda _command, _asking: led("MOVED", second)
    share(first, second, slot_of(LOW))
    await get(connections)
    await get(connections)
    assert len(first.heard) == 1
    await until(lambda: first.asked + second.asked > asked)


@pytest.mark.parametrize("kind", ["MOVED", "ASK"])
async def test_a_call_that_is_led_to_a_server_without_a_name_goes_where_the_map_says(
    servers: Pair, connections: ClusterConnections, kind: str
) -> None:
    first, second = servers
    first.answer = lambda _command, _asking: f"-{kind} {slot_of(LOW)} ?:7000\r\n".encode()
    waiting = connections.calls.begin(Call(("GET", LOW)))
    await until(lambda: first.heard)
    share(first, second, slot_of(LOW))
    assert await waiting == b"OK"
    assert len(second.heard) == 1


async def test_servers_that_lead_to_each_other_do_so_at_rest(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    first.answer = lambda _command, _asking: led("MOVED", second)
    second.answer = lambda _command, _asking: led("MOVED", first)
    with pytest.raises(Unavailable):
        await get(connections)
    assert len(first.heard) + len(second.heard) < SECONDS / 0.04 + 5


async def test_a_primary_that_does_not_answer_delays_no_call_to_another(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, _ = servers
    first.answer = lambda _command, _asking: None
    waiting = [connections.calls.begin(Call(("GET", LOW))) for _ in range(10)]
    began = asyncio.get_running_loop().time()
    for _ in range(20):
        assert await get(connections, HIGH) == b"OK"
    assert asyncio.get_running_loop().time() - began < SECONDS / 2
    assert not any(each.done() for each in waiting)
    for each in waiting:
        with pytest.raises(Unavailable):
            await each


async def test_the_map_is_asked_for_once_however_many_want_it_and_never_hastily(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    second.answer = lambda _command, _asking: b"-CLUSTERDOWN The cluster is down\r\n"
    await asyncio.sleep(0.2)
    asked = first.asked + second.asked
    began = asyncio.get_running_loop().time()
    for _ in range(10):
        calls = [connections.calls.begin(Call(("GET", HIGH))) for _ in range(50)]
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.03)
    passed = asyncio.get_running_loop().time() - began
    assert 1 <= first.asked + second.asked - asked <= passed / 0.1 + 1


# -- primaries that own nothing any more -----------------------------------------------------------


async def drop_the_first(servers: Pair, connections: ClusterConnections) -> None:
    first, second = servers
    share(first, second, 0)
    connections.map.known.doubt()
    await until(lambda: first.host not in connections.calls._pipelines)


async def test_what_is_under_way_when_a_primary_is_left_is_still_answered(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    later: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    first.answer = lambda _command, _asking: later
    call = connections.calls.begin(Call(("GET", LOW)))
    await until(lambda: first.heard)
    await drop_the_first(servers, connections)
    later.set_result(b":7\r\n")
    assert await call == 7
    assert await get(connections) == b"OK"
    assert second.heard == [[b"GET", LOW.encode()]]


async def test_what_a_primary_that_is_left_does_not_answer_is_told_in_its_time(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, _ = servers
    first.answer = lambda _command, _asking: None
    call = connections.calls.begin(Call(("GET", LOW)))
    await until(lambda: first.heard)
    await drop_the_first(servers, connections)
    with pytest.raises(Unavailable) as caught:
        await call
    assert caught.value.maybe_sent
    await until(lambda: not connections.calls._closing)
    await until(lambda: first.connections <= 1)  # that of the map


async def test_a_node_that_ends_closes_the_connections_that_were_being_left(servers: Pair) -> None:
    first, second = servers
    connections = made(first.host[1])
    async with looking(connections):
        await connections.map.asked
        first.answer = lambda _command, _asking: None
        call = connections.calls.begin(Call(("GET", LOW)))
        await until(lambda: first.heard)
        await drop_the_first(servers, connections)
    with pytest.raises(Unavailable):
        await call
    await until(lambda: not first.connections and not second.connections)


async def test_a_call_that_waits_for_its_keys_is_told_when_the_connections_are_closed(
    servers: Pair,
) -> None:
    first, second = servers
    connections = made(first.host[1])
    async with looking(connections):
        await connections.map.asked
        first.answer = lambda _command, _asking: TRYAGAIN
        call = connections.calls.begin(Call(("GET", LOW)))
        await until(lambda: len(first.heard) > 1)
    assert call.done()
    with pytest.raises(Unavailable):
        await call
    await until(lambda: not first.connections and not second.connections)
    await asyncio.sleep(0.1)
    assert tasks_left() == []


async def test_connections_for_the_map_are_closed_with_servers_that_have_left(
    servers: Pair,
) -> None:
    first, second = servers
    connections = made(second.host[1])
    async with looking(connections):
        await connections.map.asked
        await until(lambda: connections.map.known.doubt() or first.asked)
        await drop_the_first(servers, connections)
        await until(lambda: not first.connections)
        assert set(connections.map._pipelines) == {second.host}


# -- before the map is known -------------------------------------------------------------------------


async def test_calls_that_come_before_the_map_wait_for_it(servers: Pair) -> None:
    first, _ = servers
    connections = made(first.host[1])
    early = connections.calls.begin(Call(("GET", LOW)))
    async with looking(connections):
        assert await early == OK[1:3]


async def test_the_server_that_has_a_key_is_named_and_before_the_map_those_of_the_url(
    servers: Pair,
) -> None:
    first, second = (f"127.0.0.1:{each.host[1]}" for each in servers)
    connections = made(servers[0].host[1])
    assert connections.server_of(HIGH) == first
    async with looking(connections):
        await connections.map.asked
        assert connections.server_of(LOW) == first
        assert connections.server_of(HIGH) == second


async def test_while_nobody_tells_the_map_calls_say_why() -> None:
    connections = made(free_port())
    early = connections.calls.begin(Call(("GET", LOW)))
    async with looking(connections):
        for call in (early, connections.calls.begin(Call(("GET", LOW)))):
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+: .*failed"):
                await call


async def test_a_call_does_not_wait_for_the_map_longer_than_for_an_answer(servers: Pair) -> None:
    first, _ = servers
    connections = made(first.host[1])
    with pytest.raises(Unavailable, match="map is not known"):
        await connections.calls.call(Call(("GET", LOW)))
    await connections.aclose()


async def test_a_slot_that_nobody_has_is_told_at_once(
    servers: Pair, connections: ClusterConnections
) -> None:
    first, second = servers
    for each in servers:
        each.owners = [
            (0, slot_of(LOW) - 1, second.host),
            (slot_of(LOW) + 1, SLOTS - 1, first.host),
        ]
    connections.map.known.doubt()
    await until(lambda: connections.map.known.slots.owner(slot_of(LOW)) is None)
    with pytest.raises(Unavailable, match="no server has slot"):
        await get(connections)
