"""With whom TLS is begun, and when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.web import beginning_tls
from gateway.web.beginning_tls import BeginningTls
from tests.support.waiting import until

HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"


class Tls:
    """Stands in for ``ServerTls``; each asks it for the context."""

    def __init__(self) -> None:
        self.begun = 0

    @property
    def context(self) -> ssl.SSLContext:
        self.begun += 1
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class Doorkeeper:
    """Lets each begin after so many seconds, or not at all."""

    def __init__(self, turn: float | None = 0.0) -> None:
        self.turn = turn
        self.failures: list[tuple[object, str, bool]] = []

    def tls_turn(self, _address: object) -> float | None:
        return self.turn

    def failed(
        self, _protocol: asyncio.Protocol, address: object, cause: str, *, begun: bool
    ) -> None:
        self.failures.append((address, cause, begun))


class World:
    """So many connections, whose addresses are numbers."""

    def __init__(self, stack: contextlib.ExitStack, count: int, turn: float | None) -> None:
        self.tls = Tls()
        self.doorkeeper = Doorkeeper(turn)
        tls: Any = self.tls
        self.beginning: BeginningTls[asyncio.Protocol] = BeginningTls(self.doorkeeper, tls)
        pairs = [socket.socketpair() for _ in range(count)]
        self.clients = [stack.enter_context(client) for client, _ in pairs]
        for number, (_, accepted) in enumerate(pairs):
            accepted.setblocking(False)
            self.beginning.begin(accepted, asyncio.Protocol(), number)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


async def test_who_says_nothing_has_nothing_made_for_it(stack: contextlib.ExitStack) -> None:
    world = World(stack, 3, 0.0)
    world.clients[1].send(b"\x16")
    await until(lambda: world.tls.begun)
    await asyncio.sleep(0)
    assert world.tls.begun == 1
    await world.beginning.aclose()
    for each in world.clients:
        each.settimeout(10)
        assert each.recv(1) == b""


async def test_of_a_crowd_that_begins_in_one_moment_a_few_begin_in_a_turn_of_the_loop(
    stack: contextlib.ExitStack,
) -> None:
    world = World(stack, 30, 0.0)
    for each in world.clients:
        each.send(HALF_A_HELLO)
    counts = [0]
    while counts[-1] < 30:
        await asyncio.sleep(0)
        counts.append(world.tls.begun)
    steps = [after - before for before, after in itertools.pairwise(counts)]
    assert max(steps) == beginning_tls._AT_ONCE
    await world.beginning.aclose()


async def test_who_leaves_before_its_first_byte_has_cost_nothing(
    stack: contextlib.ExitStack,
) -> None:
    world = World(stack, 2, 0.0)
    world.clients[1].close()
    await until(lambda: world.doorkeeper.failures)
    assert world.doorkeeper.failures == [(1, "left", False)]
    assert world.tls.begun == 0
    await world.beginning.aclose()


async def test_who_is_silent_for_too_long_is_ended(
    stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning_tls, "_TLS_SECONDS", 0.02)
    world = World(stack, 1, 0.0)
    await until(lambda: world.doorkeeper.failures)
    assert world.doorkeeper.failures == [(0, "overdue", False)]
    world.clients[0].settimeout(10)
    assert world.clients[0].recv(1) == b""


async def test_who_has_no_turn_is_ended_and_who_has_a_later_one_waits(
    stack: contextlib.ExitStack,
) -> None:
    world = World(stack, 2, None)
    world.clients[0].send(HALF_A_HELLO)
    await until(lambda: world.doorkeeper.failures)
    assert world.doorkeeper.failures == [(0, "", False)]
    world.doorkeeper.turn = 0.05
    now = asyncio.get_running_loop().time
    begun = now()
    world.clients[1].send(HALF_A_HELLO)
    await until(lambda: world.tls.begun)
    assert now() - begun >= 0.05
    await world.beginning.aclose()


async def test_who_waits_for_its_turn_is_ended_with_the_port(stack: contextlib.ExitStack) -> None:
    world = World(stack, 1, 60.0)
    world.clients[0].send(HALF_A_HELLO)
    await until(lambda: next(iter(world.beginning._waiting)).timer is not None)
    await world.beginning.aclose()
    world.clients[0].settimeout(10)
    with contextlib.suppress(ConnectionResetError):  # not all was read
        assert world.clients[0].recv(1) == b""
    assert world.tls.begun == 0
