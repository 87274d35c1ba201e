"""Connections that die, or are refused, while they are being opened."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import uvloop

from publisher import AsyncPublisher, Publisher, Rejected, Unavailable
from publisher.contract.calls import Call
from publisher.transport.pipeline import Pipeline
from publisher.transport.topology import asyncio_topology
from tests.publisher.test_publishing import CHANNEL
from tests.support.redis_server import free_port, redis_server
from tests.support.waiting import until

RESET = struct.pack("ii", 1, 0)


class Gatekeeper:
    """A TCP server that resets each connection after so many bytes of it, or closes it in order."""

    def __init__(self, after: int, *, reset: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._after = after
        self._reset = reset
        self.url = f"redis://u:p@127.0.0.1:{self._listener.getsockname()[1]}/1"
        self.connections = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                with client, contextlib.suppress(OSError):
                    if self._after:
                        client.recv(self._after)
                        client.sendall(b"+OK\r\n")
                    if self._reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture(params=[(0, True), (0, False), (8, True), (8, False), (60, True), (60, False)])
def gatekeeper(request: pytest.FixtureRequest) -> Iterator[Gatekeeper]:
    after, reset = request.param
    gatekeeper = Gatekeeper(after, reset=reset)
    yield gatekeeper
    gatekeeper.close()


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_connection_that_dies_while_it_is_opened_is_a_lost_connection(
    gatekeeper: Gatekeeper, new_loop: Callable[[], asyncio.AbstractEventLoop]
):
    complaints: list[object] = []

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, it: complaints.append(it))
        pipeline = Pipeline(asyncio_topology(gatekeeper.url).for_loop(), None, timeout=30)
        async with contextlib.aclosing(pipeline), asyncio.timeout(20):
            # Which moment of the opening it is differs from one to the next.
            for _ in range(100):
                calls = (pipeline.begin(Call(("PING",))) for _ in range(3))
                for each in await asyncio.gather(*calls, return_exceptions=True):
                    assert type(each) is Unavailable, repr(each)
                    assert not each.maybe_sent

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())
    assert gatekeeper.connections >= 100
    assert complaints == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis with a password, and with a user who may do nothing."""
    folder = tmp_path_factory.mktemp("guarded")
    with redis_server(folder) as url, redis.Redis.from_url(url) as server:
        server.acl_setuser("nobody", enabled=True, passwords=["+p"], commands=["+ping"])
        server.acl_setuser("u", enabled=True, passwords=["+p"], commands=["+@all"], keys=["*"])
        yield url


@pytest.fixture(params=["blocking", "asyncio"])
def ping(request: pytest.FixtureRequest):
    """Ping with a publisher at a URL."""

    async def ping(url: str) -> None:
        if request.param == "blocking":
            with Publisher.from_url(url) as publisher:
                publisher.ping()
        else:
            async with AsyncPublisher.from_url(url) as publisher:
                await publisher.ping()

    return ping


async def test_ping_asks_redis(ping, guarded: str, nobody: str):
    await ping(guarded)
    with pytest.raises(Unavailable) as caught:
        await ping(nobody)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("redis://u:wrong@", "authentication failed"),
        ("redis://:wrong@", "authentication failed"),
        ("redis://u:p@/999", "DB index"),
        ("redis://nobody:p@", "NOPERM .*'time'.*right"),
    ],
)
async def test_what_trying_again_does_not_mend_is_not_retryable(
    ping, guarded: str, address: str, told: str
):
    scheme, _, database = address.partition("@")
    with pytest.raises(Rejected, match=told) as caught:
        await ping(guarded.replace("redis://", f"{scheme}@") + database)
    assert not caught.value.retryable
    assert not caught.value.maybe_sent
    assert "wrong" not in str(caught.value)


async def test_a_cluster_is_told_as_what_it_is(tmp_path: Path):
    folders = tmp_path / "empty", tmp_path / "owner"
    for folder in folders:
        folder.mkdir()
    cluster = "--cluster-enabled", "yes", "--cluster-port"
    with (
        redis_server(folders[0], *cluster, str(free_port())) as url,
        redis_server(folders[1], *cluster, str(free_port())) as owner_url,
        redis.Redis.from_url(url) as empty,
        redis.Redis.from_url(owner_url) as owner,
        Publisher.from_url(url) as publisher,
    ):
        owner.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        bus = owner.config_get("cluster-port")["cluster-port"]
        port = owner.config_get("port")["port"]
        empty.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        state = lambda: empty.cluster("INFO")["cluster_state"]  # noqa: E731
        await until(lambda: state() == "ok")
        with pytest.raises(
            Rejected, match=r"CROSSSLOT .* Redis Cluster: name it by redis\+cluster"
        ):
            publisher.publish(CHANNEL, 1)
