"""Messages that carry a trace, on nodes of versions that know of none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from publisher import AsyncPublisher
from publisher.contract.trace_context import traced
from tests.integration.test_versions import BEFORE, tree_of
from tests.support.client import connected
from tests.support.processes import gateway_process
from tests.support.tokens import make_token
from tests.support.topology import keys, looking_at
from tests.support.waiting import until

pytestmark = pytest.mark.one_server("the version before knows no sentinels")

CHANNEL = "notifications/u"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

UNTRACED = "3fa02ae"
"""A commit shortly before traces came: its nodes know all else that a message may carry."""


@pytest.fixture(scope="module", params=[BEFORE, UNTRACED])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree_of(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def untraced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree_of(UNTRACED, tmp_path_factory)


async def test_a_node_that_knows_no_traces_delivers_repeats_and_confirms_them(
    redis_url: str, prefix: str, tree: Path
) -> None:
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        gateway_process(redis_url, prefix, code=tree) as node,
    ):
        async with connected(node.url, make_token("u")) as client:
            await client.subscribe(CHANNEL)
            first = await publisher.publish(CHANNEL, 1, traceparent=TRACE)
            await publisher.publish(CHANNEL, 2)
            assert await client.data(2) == [1, 2]
        await publisher.publish(CHANNEL, 3, traceparent=TRACE)
        async with connected(node.url, make_token("u")) as client:
            assert (await client.subscribe(CHANNEL, since=first.id))["recovered"] is True
            assert await client.data(2) == [2, 3]

            async def is_confirmed() -> bool:
                return bool(await publisher.receipts(CHANNEL, first.id + 1))

            await until(is_confirmed)
        assert "level=warning" not in node.output.partition("node_started")[2]


async def test_a_node_that_knows_no_traces_publishes_later_what_has_one_and_once(
    redis_url: str, prefix: str, untraced: Path
) -> None:
    async with (
        AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher,
        gateway_process(redis_url, prefix, code=untraced) as node,
        connected(node.url, make_token("u")) as client,
    ):
        await client.subscribe(CHANNEL)
        await publisher.publish(
            CHANNEL, "later", at=time.time() + 0.2, idempotency_key="k", traceparent=TRACE
        )
        assert await client.data(1) == ["later"]
        again = await publisher.publish(CHANNEL, "again", idempotency_key="k", traceparent=TRACE)
        assert again.duplicate
        names = keys(prefix)
        with looking_at(redis_url) as server:
            (entry,) = server.zrange(names.log(CHANNEL), 0, -1)
            found = traced(entry)
            assert found is not None
            assert found[2] == TRACE
            # Nothing of it is left to be done.
            await until(lambda: not server.exists(names.scheduled_publishing))
        await client.sync()
