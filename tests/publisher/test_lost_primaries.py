"""What callers and the log are told while a primary is down."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from publisher import AsyncPublisher, Published, Publisher, Unavailable
from publisher.contract.keys import Keys
from publisher.transport.cluster import slot_of
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_server import RedisServer

CHANNELS = [f"run-results/{number}" for number in range(30)]
"""Channels of all three primaries of a cluster."""

Publish: TypeAlias = Callable[[str], Awaitable[Published]]


@contextlib.asynccontextmanager
async def publishing(kind: str, url: str, **options: Any) -> AsyncIterator[Publish]:
    """``await publish(channel)`` by one publisher, which lasts as long as the block."""
    if kind == "asyncio":
        async with AsyncPublisher.from_url(url, **options) as publisher:
            yield lambda channel: publisher.publish(channel, 1)
        return
    with Publisher.from_url(url, **options) as blocking:

        async def publish(channel: str) -> Published:
            return blocking.publish(channel, 1)

        yield publish


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the library has logged."""

    def messages() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name.startswith("publisher")]

    return messages


async def test_that_a_server_is_lost_is_told_once_and_once_that_it_is_reached_again(
    kind: str, tmp_path: Path, prefix: str, told: Callable[[], list[str]]
):
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with publishing(kind, server.url, prefix=prefix, retries=1) as publish:
            await publish(CHANNELS[0])
            server.kill()
            for channel in CHANNELS[:5]:
                with pytest.raises(Unavailable) as caught:
                    await publish(channel)
            server.start()
            for channel in CHANNELS[:5]:
                await publish(channel)
    finally:
        server.kill()
    lost, reached = told()
    assert caught.value.server == f"127.0.0.1:{server.port}"
    assert lost.startswith(f"primary_lost server=127.0.0.1:{server.port} reason=")
    assert reached == f"primary_reached server=127.0.0.1:{server.port} failed_tries=10"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster"), replicated=False) as cluster:
        yield cluster


async def test_who_starts_while_the_namespaces_cannot_be_had_is_told_where_they_are(
    kind: str, cluster: RedisCluster, prefix: str, told: Callable[[], list[str]]
):
    keys = Keys(prefix, sharded=True)
    down = cluster.owner(slot_of(keys.namespaces))
    elsewhere = [each for each in CHANNELS if cluster.owner(slot_of(keys.log(each))) is not down]
    down.kill()
    try:
        async with publishing(kind, cluster.url, prefix=prefix, give_up_after=0.5) as publish:
            for channel in elsewhere[:3]:
                with pytest.raises(Unavailable) as caught:
                    await publish(channel)
            said = str(caught.value)
            assert caught.value.server == f"127.0.0.1:{down.port}"
            assert caught.value.server in said
            assert keys.namespaces in said
            assert "start that server again" in said
            assert not caught.value.maybe_sent
            (lost,) = told()
            assert lost.startswith(f"primary_lost server=127.0.0.1:{down.port} reason=")
            down.start()
            cluster.settle()
            await publish(elsewhere[0])
            assert told()[1].startswith(f"primary_reached server=127.0.0.1:{down.port} ")
            assert len(told()) == 2
    finally:
        if not down.alive:
            down.start()
        cluster.settle()
