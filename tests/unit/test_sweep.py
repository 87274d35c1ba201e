"""One sweep serves all that is due at certain times."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.core.access import Identity
from gateway.core.closing import PONG_TIMEOUT
from gateway.node.heartbeats import Heartbeats
from gateway.node.passes import Passes
from gateway.node.recheck import Recheck
from gateway.node.sweep import Sweep
from gateway.node.tasks import Tasks
from gateway.node.tokens import Tokens, TokenTimes
from tests.support.waiting import until
from tests.unit.bench import Bench
from tests.unit.fakes import Node, RecordingFeed, make_connection
from tests.unit.test_recheck import NAMESPACES, Grants


async def test_a_defect_in_one_keeps_no_other_from_what_is_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node()
    ticks = []

    def broken() -> None:
        raise ZeroDivisionError

    sweep = Sweep(node.stats, node.clock, 0.001, (broken, lambda: ticks.append(1)))
    running = asyncio.create_task(sweep.run())
    await until(lambda: len(ticks) >= 2)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert "tick_failed" in caplog.text


async def test_it_tells_how_late_it_came() -> None:
    node = Node()
    lags: list[float] = []

    def note() -> None:
        lags.append(node.stats.event_loop_lag)

    sweep = Sweep(node.stats, node.clock, 0.001, (note,))
    running = asyncio.create_task(sweep.run())
    await asyncio.sleep(0)
    node.clock.now += 2.001
    await until(lambda: lags)
    assert lags[0] == pytest.approx(2.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_client_that_is_not_read_from_is_not_judged_by_its_pong() -> None:
    """It may have answered long ago. It is given up when it takes nothing (stalls.py)."""
    node = Bench().node
    heartbeats = Heartbeats(node.hub, node.clock, lambda: 0.5, 30.0, 30.0)
    client, socket = make_connection()
    node.hub.connections[client.id] = client
    heartbeats.watch(client)
    socket.unheard = True
    for _ in range(600):
        node.clock.now += 0.5
        heartbeats.tick()
    assert socket.closing is None
    socket.unheard = False
    for _ in range(150):
        node.clock.now += 0.5
        heartbeats.tick()
    assert socket.closing is PONG_TIMEOUT


async def test_a_client_that_goes_on_sending_has_time_for_its_pong_and_one_that_stops_has_not() -> (
    None
):
    """Its pong is behind what it sends."""
    node = Node()
    heartbeats = Heartbeats(node.hub, node.clock, lambda: 0.5, 30.0, 30.0)
    client, socket = make_connection()
    node.hub.connections[client.id] = client
    heartbeats.watch(client)
    sent_at = node.clock.now

    def pass_by(seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            node.clock.now += 0.5
            socket.quiet = node.clock.now - sent_at
            heartbeats.tick()

    for _ in range(20):
        pass_by(25)
        sent_at = node.clock.now
    assert socket.closing is None
    pass_by(61)
    assert socket.closing is PONG_TIMEOUT


async def test_nothing_is_kept_of_a_connection_that_is_gone() -> None:
    bench = Bench()
    node = bench.node
    heartbeats = Heartbeats(node.hub, node.clock, lambda: 0.5, 30.0, 30.0)
    grants = Grants()
    refusals = bench.refusals(grants, RecordingFeed())
    recheck = Recheck(
        node.hub,
        bench.catchup,
        grants,
        refusals,
        NAMESPACES,
        Passes(node.revocations(), node.clock),
        node.clock,
        lambda: 0.0,
    )

    class Verifier:
        def verify(self, token: str) -> Identity:
            raise AssertionError(token)

    shown = recheck, node.revocations(), Tasks()
    tokens = Tokens(node.hub, Verifier(), *shown, TokenTimes(5, 60), node.clock, node.clock)
    client, socket = make_connection()
    client.identity = Identity("u", expires_at=node.clock.now + 70)
    node.hub.connections[client.id] = client
    heartbeats.watch(client)
    tokens.watch(client)
    heartbeats.forget(client)
    tokens.forget(client)
    for _ in range(200):
        node.clock.now += 0.5
        heartbeats.tick()
        tokens.tick()
    node.hub.outboxes.flush()
    assert not socket.writes
    assert socket.closing is None
    assert not tokens._expiries._ending
