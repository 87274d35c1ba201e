"""A deploy: one gateway after the other is replaced behind the deployment's own nginx or HAProxy."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.support.haproxy import HAProxy, haproxy_before
from tests.support.nginx import Nginx, nginx_before
from tests.support.programs import RequireProgram

NODES = 3
GOING_AWAY = 1001

BALANCERS: dict[str, Callable[..., Nginx | HAProxy]] = {
    "nginx": nginx_before,
    "haproxy": haproxy_before,
}


@pytest.mark.parametrize("name", ["nginx", pytest.param("haproxy", marks=pytest.mark.long)])
async def test_a_rolling_restart_loses_nothing_and_refuses_nobody(
    world: StartWorld, tmp_path: Path, require_program: RequireProgram, name: str
) -> None:
    program = require_program(name)

    @contextlib.asynccontextmanager
    async def before(ports: list[int]) -> AsyncIterator[str]:
        balancer = BALANCERS[name](program, tmp_path / name, *ports)
        async with balancer.running():
            yield balancer.url

    async with world(nodes=NODES, before=before, drain_delay_seconds=1, drain_seconds=3) as w:
        for node in w.nodes:
            assert await node.terminate() == 0
            await node.start()
            await w.published(20)
        await w.everybody_listens()
        trace = await w.finish()
        require(trace)
        # A handshake that met a gateway which was leaving or gone went on to another.
        assert [device.name for device in trace.devices if device.refusals] == []
        # Each client was asked to go, and none just lost its line.
        assert {session.close_code for session in trace.breaks()} == {GOING_AWAY}
