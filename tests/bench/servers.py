"""What a fan-out is measured on: the gateway, the floor, and (``peers``) other servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import orjson

from publisher import AsyncPublisher
from tests.bench.measuring import with_children
from tests.bench.programs import built
from tests.bench.world import GREETINGS, PREFIX, ROOM, World, own_world, target, users
from tests.support.redis_server import free_port

Message = dict[str, Any]


class Server(Protocol):
    """A server that runs, and what it takes to give it the work.

    ``greetings`` are the frames that a socket gets before its first message, and ``share`` is the part
    of the messages that a server gets which is too slow for all. A run goes on without a ``peer`` that fails.
    """

    name: str
    version: str
    peer: bool
    share: float
    port: int
    greetings: int

    @property
    def pids(self) -> list[int]:
        """The processes that are charged."""

    def targets(self, count: int) -> list[str]:
        """So many clients that all listen to one channel."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish to that channel, all at once."""


class GatewayServer:
    """The gateway, over which every message is logged, ordered and confirmed."""

    name = "gateway"
    version = ""
    peer = False
    share = 1.0
    greetings = GREETINGS

    def __init__(self, world: World, publisher: AsyncPublisher, query: str = "") -> None:
        self.port = world.gateway.port
        self._world = world
        self._publisher = publisher
        self._query = query

    @property
    def pids(self) -> list[int]:
        return self._world.pids

    def targets(self, count: int) -> list[str]:
        return [target(user, ROOM, self._query) for user in users(count)]

    async def publish(self, messages: Sequence[Message]) -> None:
        for outcome in await self._publisher.publish_many((ROOM, each) for each in messages):
            if isinstance(outcome, Exception):
                raise outcome


class FloorServer:
    """``floor.c``."""

    name = "floor"
    version = ""
    peer = False
    share = 1.0
    greetings = 0

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._process = process

    @property
    def pids(self) -> list[int]:
        return with_children(self._process.pid)

    def targets(self, count: int) -> list[str]:
        return ["/"] * count

    @property
    def input(self) -> int:
        """The file to write lines to, for who does not use asyncio."""
        assert self._process.stdin is not None
        pipe: int = self._process.stdin.get_extra_info("pipe").fileno()
        return pipe

    async def publish(self, messages: Sequence[Message]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(orjson.dumps(each) + b"\n" for each in messages))
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def gateway_server(query: str = "", **settings: Any) -> AsyncIterator[GatewayServer]:
    """A gateway with default settings; ``query`` is added to its clients' URL."""
    async with (
        own_world(**settings) as world,
        AsyncPublisher.from_url(world.redis.url, prefix=PREFIX) as publisher,
    ):
        yield GatewayServer(world, publisher, query)


@contextlib.asynccontextmanager
async def floor_server(*mode: str) -> AsyncIterator[FloorServer | None]:
    """The floor; ``None`` without a C compiler. ``one``: each message goes to one socket."""
    program = built("floor")
    if program is None:
        yield None
        return
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(program), str(port), *mode),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(10):
            assert await process.stdout.readline() == b"ready\n"
        yield FloorServer(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
