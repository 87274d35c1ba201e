"""A whole deployment under load: Redis, gateways, backends that publish, clients, and the lines between them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import redis.asyncio
from redis.exceptions import RedisError

from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from tests.faults.node import Node, running_nodes
from tests.faults.numbered import NumberedPublisher
from tests.faults.plain_client import PlainClient
from tests.faults.proxy import Proxy
from tests.faults.trace import Device, Interval, PlacesHeld, Publication, Session, Trace
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

EVERYBODY: Final = "run-results/class"
_SAMPLE_SECONDS: Final = 0.1
_SETTLE_SECONDS: Final = 15.0
_RECOVERY_SECONDS: Final = 30.0
# What has been written is the kernel's, which no signal to Redis reaches. `everysec` may put a write
# off while the disk is busy (redis.conf, appendfsync), and what waits then dies with the process.
REDIS_OPTIONS: Final = ("--appendonly", "yes", "--appendfsync", "no")


@dataclass(frozen=True)
class Load:
    """Who is there and how much is said.

    ``devices``: of each user, by the user's name. One with six has one too many: it is turned away
    and tries again, as long as the other five are there.
    """

    devices: dict[str, int] = field(
        default_factory=lambda: {"ann": 1, "ben": 1, "cho": 1, "dan": 1, "eve": 3, "fay": 6}
    )
    rate: float = 5.0
    padding: int = 100
    reload_seconds: float | None = None
    """See ``PlainClient``: the document's client gives up after half a minute."""


class World:
    """``front`` is what clients connect to, ``backend`` the line from the publishers to Redis."""

    def __init__(self, seed: int, prefix: str, server: RedisServer, load: Load) -> None:
        self.dice = random.Random(seed)
        self.server = server
        self.prefix = prefix
        self.load = load
        self.nodes: list[Node] = []
        self.front = Proxy()
        self.backend = Proxy(server.port)
        self.trace = Trace()
        self.clients: list[PlainClient] = []
        self._publishers: list[NumberedPublisher] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._publishing: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._publisher: AsyncPublisher | None = None

    # -- the load -----------------------------------------------------------------------------

    async def begin(
        self, session: aiohttp.ClientSession, publisher: AsyncPublisher, url: str
    ) -> None:
        """Let the clients connect and the backends publish; returns once everybody listens."""
        self._session, self._publisher = session, publisher
        for user, count in self.load.devices.items():
            for number in range(count):
                channels = (f"notifications/{user}", EVERYBODY)
                self.add_client(Device(user, f"{user}'s {number}", channels), url)
        channels = {channel for device in self.trace.devices for channel in device.channels}
        for channel in sorted(channels):
            self.publish(channel, self.load.rate, self.load.padding)
        self._spawn(self._sample())
        await until(lambda: len(self.subscribed) >= self.expected)

    def add_client(self, device: Device, url: str) -> PlainClient:
        """Let one more device connect."""
        assert self._session is not None
        client = PlainClient(self._session, url, device, self.load.reload_seconds)
        self.trace.devices.append(device)
        self.clients.append(client)
        self._spawn(client.run())
        return client

    def publish(self, channel: str, rate: float, padding: int, *, keyed: bool = True) -> None:
        """Let a backend publish to a channel from now on."""
        assert self._publisher is not None
        numbered = NumberedPublisher(
            self._publisher, channel, self.trace, self.dice, rate, padding, keyed=keyed
        )
        self._publishers.append(numbered)
        self._publishing.append(self._spawn(numbered.run()))

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    @property
    def expected(self) -> int:
        """Devices that are let in."""
        return sum(min(count, 5) for count in self.load.devices.values())

    @property
    def subscribed(self) -> list[PlainClient]:
        """The clients that hear everything now."""
        return [client for client in self.clients if client.subscribed]

    async def everybody_listens(self, within: float = 20.0) -> None:
        """Return once all are back who may be."""
        try:
            await until(lambda: len(self.subscribed) >= self.expected, within)
        except TimeoutError:
            missing = [each.describe() for each in self.clients if not each.subscribed]
            raise AssertionError("\n".join(["not back:", *missing])) from None

    async def published(self, more: int) -> None:
        """Return once so many more messages have been published."""
        goal = len(self.trace.publications) + more
        await until(lambda: len(self.trace.publications) >= goal, 30.0)

    async def finish(self) -> Trace:
        """Stop publishing, let everything arrive, and hand over what happened."""
        for publisher in self._publishers:
            publisher.stop()
        async with asyncio.timeout(_SETTLE_SECONDS):
            await asyncio.gather(*self._publishing)
        with contextlib.suppress(TimeoutError):  # what is missing then is in the trace
            await until(self._is_settled, _SETTLE_SECONDS)
        self.trace.ended_at = time.monotonic()
        await self.aclose()
        return self.trace

    def _is_settled(self) -> bool:
        """Whether each user has the newest message of each channel, and each device that is connected."""
        newest = {
            each.channel: each for each in sorted(self.trace.publications, key=lambda p: p.id)
        }
        had = {
            (device.user, each.id)
            for device in self.trace.devices
            for session in device.sessions
            for each in session.arrivals[-50:]
        }
        for device in self.trace.devices:
            if any((device.user, newest[name].id) not in had for name in device.channels):
                return False
        return not any(_waits(client.device.sessions[-1], newest) for client in self.subscribed)

    async def aclose(self) -> None:
        """End the clients and whatever else is going on."""
        going = self._tasks
        while going:
            for task in going:
                task.cancel()
            # Again: redis-py may take a cancellation for its own time-out, and its caller goes on.
            _, going = await asyncio.wait(going, timeout=1)
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for result in results:
            if isinstance(result, Exception):
                raise result

    # -- what is looked at all the time -------------------------------------------------------

    async def _sample(self) -> None:
        """Count the places that users hold, where they are kept."""
        keys = Keys(self.prefix)
        async with redis.asyncio.Redis(port=self.server.port, socket_timeout=1) as client:
            while True:
                await asyncio.sleep(_SAMPLE_SECONDS)
                for user in self.load.devices:
                    try:
                        count = await client.zcard(keys.connections(user))
                    except (RedisError, OSError):
                        continue
                    self.trace.places.append(PlacesHeld(time.monotonic(), user, count))

    async def all_ready(self) -> bool:
        """Whether every node that runs is ready; who was killed or frozen meanwhile is left out."""
        for node in self.nodes:
            if node.frozen:
                continue
            with contextlib.suppress(RuntimeError):
                if not await node.ready():
                    return False
        return True

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """While the block runs, and until all nodes are ready again, nothing can be confirmed."""
        begun = time.monotonic()
        try:
            yield
            await until(self.all_ready, _RECOVERY_SECONDS)
        finally:
            self.trace.outages.append(Interval(begun, time.monotonic()))


@contextlib.asynccontextmanager
async def running_world(
    folder: Path,
    seed: int,
    *,
    nodes: int = 2,
    load: Load | None = None,
    before: Callable[[list[int]], AbstractAsyncContextManager[str]] | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """A deployment under load until the block ends; whatever error leaves it tells the seed.

    Args:
        before: what stands before the nodes in place of ``front``; it is told their ports, and tells
            what clients connect to.
        settings: of the nodes.
    """
    server = RedisServer(folder, *REDIS_OPTIONS)
    prefix = f"t{secrets.token_hex(6)}"
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(server.stop)
        await asyncio.to_thread(server.start)
        world = World(seed, prefix, server, load or Load())
        try:
            world.nodes = await stack.enter_async_context(
                running_nodes(nodes, server.port, prefix, **settings)
            )
            world.front.targets = [node.port for node in world.nodes]
            for proxy in (world.front, world.backend):
                await proxy.start()
                stack.push_async_callback(proxy.aclose)
            publisher = await stack.enter_async_context(
                AsyncPublisher.from_url(
                    f"redis://127.0.0.1:{world.backend.port}", prefix=prefix, timeout=1.0
                )
            )
            connector = aiohttp.TCPConnector(limit=0)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            stack.push_async_callback(world.aclose)
            url = f"ws://127.0.0.1:{world.front.port}"
            if before is not None:
                ports = [node.port for node in world.nodes]
                url = await stack.enter_async_context(before(ports))
            await world.begin(session, publisher, url)
            yield world
        except BaseException as error:
            error.add_note(f"To do the same again: FAULTS_SEED={seed}")
            raise


def _waits(session: Session, newest: dict[str, Publication]) -> bool:
    """Whether a channel's newest message, published since its subscribe was answered, has yet to come."""
    had = {each.id for each in session.arrivals[-50:]}
    return any(
        newest[channel].asked_at > answered_at and newest[channel].id not in had
        for channel, answered_at in session.answered.items()
    )
