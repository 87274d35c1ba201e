"""The end of a node whose Redis is gone already: an ordinary event, over in bounded time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from publisher import AsyncPublisher
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.redis_server import RedisServer
from tests.support.tokens import make_token

CHANNEL = "notifications/u"
LONGEST_SECONDS = 10.0
"""Two time-outs of Redis (3 s each) and a client's farewell (2 s), with some air; the drain takes none."""


@pytest.mark.parametrize("trouble", ["gone", "hanging"])
async def test_a_node_whose_redis_is_in_trouble_ends_in_order_and_in_time(
    tmp_path: Path, prefix: str, trouble: str
) -> None:
    server = RedisServer(tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with (
            gateway_process(server.url, prefix, drain_seconds=0) as node,
            connected(node.url, make_token("u")) as client,
        ):
            await client.subscribe(CHANNEL)
            async with AsyncPublisher.from_url(server.url, prefix=prefix) as publisher:
                await publisher.publish(CHANNEL, 1)
            assert await client.data(1) == [1]
            server.kill() if trouble == "gone" else server.freeze()
            began = time.monotonic()
            node.process.terminate()
            assert await client.expect_close() == (1001, "draining")
            assert await asyncio.wait_for(node.process.wait(), 30) == 0
            assert time.monotonic() - began < LONGEST_SECONDS
            assert "Traceback" not in node.output
            assert "level=error" not in node.output
            assert 'stop_incomplete step="give places back"' in node.output
            assert 'stop_incomplete step="give up the node lease"' in node.output
            assert "node_stopped" in node.output
    finally:
        if trouble == "hanging":
            server.thaw()
            await asyncio.to_thread(server.stop)
