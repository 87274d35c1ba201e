"""The same deploy under the load of many clients."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from pathlib import Path

import pytest

from gateway.load_generator.generator import Load, generate
from tests.faults.test_rolling_restart import BALANCERS, NODES
from tests.support.haproxy import HAProxy
from tests.support.nginx import Nginx
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.programs import RequireProgram
from tests.support.redis_server import free_port
from tests.support.tokens import make_token

CONNECTIONS = 500
A_SECOND = 300.0


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BALANCERS)
async def test_a_rolling_restart_under_the_load_of_many_loses_nothing_and_refuses_nobody(
    redis_url: str,
    prefix: str,
    tmp_path: Path,
    require_program: RequireProgram,
    name: str,
) -> None:
    program, ports = require_program(name), [free_port() for _ in range(NODES)]
    balancer = BALANCERS[name](program, tmp_path / name, *ports)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        began = loop.time()
        nodes = [await started(stack, redis_url, prefix, port) for port in ports]
        a_start = (loop.time() - began) / NODES
        await stack.enter_async_context(balancer.running())
        # Longer than all restarts take here and now.
        seconds = NODES * (2 * a_start + 6)
        load = Load(balancer.url, CONNECTIONS, A_SECOND, seconds, 200, 20.0)
        loading = asyncio.create_task(generate(load, redis_url, prefix, make_token))
        await asyncio.wait_for(all_are_connected(nodes), 60)
        for node in nodes:
            assert await node.terminate() == 0
            await started(stack, redis_url, prefix, node.port)
        assert not loading.done()
        result = await loading
        answers = statuses(balancer)
    print(name, dict(answers), result)  # noqa: T201
    assert result.is_good
    assert result.messages.losses_told == 0
    # Every handshake has come through, and each client has moved: all that were on a node, when it went.
    assert set(answers) == {101}
    assert answers[101] >= 2 * CONNECTIONS


async def started(
    stack: contextlib.AsyncExitStack, redis_url: str, prefix: str, port: int
) -> GatewayProcess:
    drain = {"drain_delay_seconds": 1, "drain_seconds": 2}
    return await stack.enter_async_context(gateway_process(redis_url, prefix, port=port, **drain))


async def all_are_connected(nodes: list[GatewayProcess]) -> None:
    found = 0
    while found < CONNECTIONS:
        pages = [(await node.get("/metrics"))[1] for node in nodes]
        found = sum(
            int(float(count))
            for page in pages
            for count in re.findall(r"^gateway_connections (\S+)", page, re.MULTILINE)
        )


def statuses(balancer: Nginx | HAProxy) -> Counter[int]:
    """How often clients were answered with which status, once their connections are over."""
    if isinstance(balancer, Nginx):
        found = re.findall(r'"path":"/","status":(\d+)', balancer.logs)
    else:
        found = re.findall(r" GET / (\d+) ", balancer.output)
    return Counter(map(int, found))
