"""A deploy: one gateway after the other is replaced behind the deployment's own nginx, under load."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.faults.conftest import StartWorld
from tests.faults.invariants import require
from tests.support.nginx import nginx_before
from tests.support.programs import RequireProgram

NODES = 3
GOING_AWAY = 1001


async def test_a_rolling_restart_loses_nothing_and_refuses_nobody(
    world: StartWorld, tmp_path: Path, require_program: RequireProgram
) -> None:
    program = require_program("nginx")

    @contextlib.asynccontextmanager
    async def nginx(ports: list[int]) -> AsyncIterator[str]:
        balancer = nginx_before(program, tmp_path / "nginx", *ports)
        async with balancer.running():
            yield balancer.url

    async with world(nodes=NODES, before=nginx, drain_delay_seconds=1, drain_seconds=3) as w:
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
        codes = {
            session.close_code
            for device in trace.devices
            for session in device.sessions
            if session.lasted_until(trace.ended_at) < trace.ended_at
        }
        assert codes == {GOING_AWAY}
