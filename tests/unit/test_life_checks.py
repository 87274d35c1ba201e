"""Who counts as silent, and who does not."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.closing import PONG_TIMEOUT
from gateway.node import life_checks
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.life_checks import LifeChecks
from gateway.node.tasks import Tasks
from tests.support.waiting import until
from tests.unit.fakes import Node, RecordingSocket, make_connection
from tests.unit.wire import frames_in

PING = 0x9


class Bench:
    """One client of a node, and a clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(life_checks, "_LOOK_SECONDS", 0.0)
        self.node = Node()
        self.tasks = Tasks()
        self.freed: list[tuple[str, str]] = []
        self.clock = self.node.clock
        self.heartbeats = Heartbeats(self.node.hub, self.clock, lambda: 0.5, 30, 30)
        self.checks = LifeChecks(
            self.node.hub,
            self.heartbeats,
            self.tasks,
            self.clock,
            lambda *place: self.freed.append(place),
        )
        self.client, self.socket = self.add("c1")

    def add(self, id: str) -> tuple[Connection, RecordingSocket]:
        client, socket = make_connection(id=id)
        self.node.hub.connections[id] = client
        self.heartbeats.watch(client)
        return client, socket

    def look(self, *ids: str) -> asyncio.Task[None]:
        return asyncio.create_task(self.checks.look(ids or ["c1"]))

    async def turns(self, count: int = 10) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def spend(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass while the node looks."""
        for _ in range(round(seconds / step)):
            self.clock.now += step
            await self.turns()

    def pings(self, socket: RecordingSocket) -> int:
        return sum(frame.opcode == PING for frame in frames_in(socket.received))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_a_client_that_is_silent_for_three_seconds_is_closed_and_its_place_freed(
    bench: Bench,
) -> None:
    looking = bench.look()
    await bench.spend(2.9)
    assert not bench.client.closed
    await bench.spend(0.3)
    await looking
    assert bench.socket.closing is PONG_TIMEOUT
    assert bench.freed == [(bench.client.user, "c1")]
    assert bench.pings(bench.socket) == 1


@pytest.mark.parametrize("sign", ["a pong", "a byte", "progress"])
async def test_a_client_that_shows_life_stays_and_is_known_to_live_at_once(
    bench: Bench, sign: str
) -> None:
    if sign == "progress":
        bench.socket.slow, bench.socket.waiting, bench.socket.piled = True, 1_000, 1_000
    looking = bench.look()
    await bench.spend(2.0)
    match sign:
        case "a pong":
            bench.heartbeats.heard(bench.client)
        case "a byte":
            bench.socket.arrived += 1
        case "progress":
            bench.socket.waiting -= 1
    await bench.turns()
    assert looking.done()
    assert not bench.client.closed
    assert not bench.freed


async def test_what_its_system_takes_of_the_ping_itself_is_no_sign_of_life(bench: Bench) -> None:
    """A proxy's would take it too, for a client that is gone."""
    looking = bench.look()
    await bench.spend(0.5)
    bench.socket.piled += 3
    await bench.spend(3.0)
    await looking
    assert bench.client.closed


async def test_time_in_which_the_node_stood_still_does_not_count(bench: Bench) -> None:
    looking = bench.look()
    await bench.spend(60, step=60)
    await bench.spend(2.5)
    assert not looking.done()
    bench.heartbeats.heard(bench.client)
    await until(looking.done)
    assert not bench.client.closed


async def test_all_who_ask_about_a_client_at_about_the_same_time_draw_one_ping(
    bench: Bench,
) -> None:
    asking = [bench.look() for _ in range(5)]
    await bench.spend(0.1)
    bench.heartbeats.heard(bench.client)
    await bench.spend(0.2)
    await asyncio.gather(*asking, bench.look())
    assert bench.pings(bench.socket) == 1


async def test_a_dead_client_delays_nothing_that_is_known_of_the_others(bench: Bench) -> None:
    bench.add("c2")
    dead, living = bench.look("c1"), bench.look("c2", "of another time")
    await bench.spend(0.1)
    bench.heartbeats.heard(bench.node.hub.connections["c2"])
    await bench.turns()
    assert living.done()
    assert not dead.done()
    await bench.spend(3.2)
    await dead
    assert bench.freed == [(bench.client.user, "c1")]
