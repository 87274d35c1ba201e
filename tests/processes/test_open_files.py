"""A node whose files are nearly all taken by connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.client import connected
from tests.support.processes import GatewayProcess, gateway_process
from tests.support.requests import Line, line, request
from tests.support.tokens import make_token
from tests.support.waiting import until

FILES = 400
IDLE = 600


@contextlib.asynccontextmanager
async def idle(url: str, count: int) -> AsyncIterator[list[Line]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(line(url)) for _ in range(count)]


async def metric(node: GatewayProcess, name: str) -> float:
    _, text = await node.get("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_idle_connections_leave_files_for_everything_else(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, files=FILES) as node, idle(node.url, IDLE):
        limited = 'gateway_connections_refused_total{reason="unauthenticated_limit"}'

        async def refused() -> bool:
            return await metric(node, limited) > 0

        await until(refused)
        assert (await node.get("/healthz"))[0] == 200
        assert (await node.get("/readyz"))[0] == 200
        assert await metric(node, "process_open_fds") < FILES - 64
        assert await metric(node, "process_max_fds") == FILES
        # A balancer that can ask at the clients' port only, and that says that it has said everything.
        async with line(node.url, request("GET /readyz HTTP/1.1", "Host: x")) as probe:
            probe.writer.write_eof()
            assert (await probe.answer()).status == 200
            assert await probe.ended()
        started = asyncio.get_running_loop().time()
        async with connected(node.url, make_token("u")) as client:
            await client.sync()
        assert asyncio.get_running_loop().time() - started < 2
        assert "reason=unauthenticated_limit" in node.output
        assert "Traceback" not in node.output
        assert len(node.output) < 10_000


async def test_a_node_with_too_few_files_says_what_it_has_room_for(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, files=FILES) as node:
        limit = int(await metric(node, "gateway_connections_limit"))
        assert limit < FILES - 64
        assert f"files_too_few open_files={FILES} connections_limit={limit}" in node.output
        assert node.output.count("files_too_few") == 1


async def test_a_developer_does_not_read_of_files_first(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    async with gateway_process(
        redis_url, prefix, files=FILES, development=True, data_folder=tmp_path
    ) as node:
        assert int(await metric(node, "gateway_connections_limit")) < FILES - 64
        assert "files_too_few" not in node.output


async def test_clients_and_strangers_together_leave_files(redis_url: str, prefix: str) -> None:
    async with (
        gateway_process(redis_url, prefix, files=FILES, max_connections_per_user=1_000) as node,
        contextlib.AsyncExitStack() as stack,
    ):
        room = int(await metric(node, "gateway_connections_limit"))
        token = make_token("u")
        for _ in range(room):
            await stack.enter_async_context(connected(node.url, token))
        await stack.enter_async_context(idle(node.url, IDLE - room))
        assert (await node.get("/healthz"))[0] == 200
        assert await metric(node, "gateway_connections") == room
        assert await metric(node, "process_open_fds") < FILES


async def test_a_node_without_files_left_says_so_once_and_goes_on(
    redis_url: str, prefix: str
) -> None:
    async with gateway_process(redis_url, prefix, files=FILES) as node:
        # The internal port is for operators. Whatever takes the files there, what comes after it works again.
        async with idle(node.internal_url, IDLE):
            await until(lambda: "files_exhausted" in node.output)
        await until(node.is_ready)
        async with connected(node.url, make_token("u")) as client:
            await client.sync()
        assert node.output.count("files_exhausted") <= 2
        assert "Traceback" not in node.output
