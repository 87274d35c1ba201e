from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import pytest
import redis

from publisher import AsyncPublisher, Publisher
from publisher.contract.keys import Keys
from tests.publisher.announcing import Announce, announcer
from tests.publisher.reply_cutter import ReplyCutter
from tests.support import topology

PublishOnce: TypeAlias = Callable[..., Awaitable[None]]


@pytest.fixture
def keys(prefix: str) -> Keys:
    return topology.keys(prefix)


@pytest.fixture
def server(redis_url: str) -> Iterator[topology.Looking]:
    """Redis itself, to look at what the publisher has done."""
    with topology.looking_at(redis_url) as client:
        yield client


@pytest.fixture
def announce(server: redis.Redis, keys: Keys) -> Announce:
    """Announce these namespaces as a gateway does that has them."""
    return announcer(server, keys)


@pytest.fixture
def publisher(publisher_url: str, prefix: str) -> Iterator[Publisher]:
    with Publisher.from_url(publisher_url, prefix=prefix) as publisher:
        yield publisher


@pytest.fixture
async def async_publisher(publisher_url: str, prefix: str) -> AsyncIterator[AsyncPublisher]:
    async with AsyncPublisher.from_url(publisher_url, prefix=prefix) as publisher:
        yield publisher


@pytest.fixture
def cutter(publisher_url: str) -> Iterator[ReplyCutter]:
    """A way to Redis on which replies can be lost."""
    topology.require_one_server("sentinels would lead past the proxy before it")
    with ReplyCutter(publisher_url) as cutter:
        yield cutter


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL where nobody listens: the port stays taken, so that nobody begins to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(params=["blocking", "asyncio"])
def publish_once(request: pytest.FixtureRequest) -> PublishOnce:
    """``await publish_once(url, **options)``: publish with a publisher of that kind, which ends then."""

    async def publish(url: str, **options: Any) -> None:
        if request.param == "blocking":
            with Publisher.from_url(url, **options) as publisher:
                publisher.publish("notifications/u", 1)
            return
        try:
            async with AsyncPublisher.from_url(url, **options) as publisher:
                await publisher.publish("notifications/u", 1)
        finally:
            # What a TLS handshake that failed leaves behind, asyncio closes in later turns.
            await asyncio.sleep(0.1)

    return publish


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
