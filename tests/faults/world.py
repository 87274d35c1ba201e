"""A whole deployment under load: Redis, gateways, backends that publish, clients, and the lines between them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import redis.asyncio

from publisher import AsyncPublisher
from publisher.contract.keys import Keys
from tests.faults.backend import Backend
from tests.faults.events import events_in
from tests.faults.leftovers import keys_left
from tests.faults.logs import lines
from tests.faults.node import Node
from tests.faults.numbered import NumberedPublisher
from tests.faults.observing import numbers_in_logs, sample_places, sample_readiness
from tests.faults.plain_client import PlainClient
from tests.faults.proxy import Proxy
from tests.faults.publishing_process import PublishingProcess
from tests.faults.redis_servers import RedisServers
from tests.faults.trace import Device, Interval, Occurrence, Publication, Session, Trace
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

EVERYBODY: Final = "run-results/class"
BY_PROCESS: Final = "run-results/by-process"
BY_GRANT: Final = "run-results/by-grant"
_STOP_SECONDS: Final = 40.0
_SETTLE_SECONDS: Final = 20.0
_RECOVERY_SECONDS: Final = 30.0


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
    more: bool = field(default_factory=lambda: "FAULTS_MORE" in os.environ)
    """Whether there is, besides, all that ``more_load.py`` has."""


class World:
    """``front`` is what clients connect to, ``backend`` the line from the publishers to a single Redis."""

    def __init__(
        self, seed: int, prefix: str, folder: Path, redis: RedisServers, load: Load
    ) -> None:
        self.dice = random.Random(seed)
        self.redis = redis
        self.prefix = prefix
        self.load = load
        self.nodes: list[Node] = []
        self.front = Proxy()
        self.backend = Proxy(self.server.port)
        self.trace = Trace()
        self.clients: list[PlainClient] = []
        self.process = PublishingProcess(
            folder / "backend",
            redis.url(self.backend),
            *(prefix, BY_PROCESS, load.rate),
        )
        self._publishers: list[Backend] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._publishing: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._publisher: AsyncPublisher | None = None
        self._once: AsyncPublisher | None = None
        self._settling: list[Callable[[], Awaitable[None]]] = []

    @property
    def server(self) -> RedisServer:
        """The Redis that has what everybody hears, now."""
        return self.redis.server_of(Keys(self.prefix).log(EVERYBODY))

    # -- the load -----------------------------------------------------------------------------

    async def begin(
        self,
        session: aiohttp.ClientSession,
        publisher: AsyncPublisher,
        once: AsyncPublisher,
        url: str,
    ) -> None:
        """Let the clients connect and the backends publish; returns once everybody listens.

        Args:
            once: tries nothing again, and is for publishes without a key.
        """
        self._session, self._publisher, self._once = session, publisher, once
        for user, count in self.load.devices.items():
            for number in range(count):
                channels = (f"notifications/{user}", EVERYBODY)
                self.add_client(Device(user, f"{user}'s {number}", channels), url)
        channels = {channel for device in self.trace.devices for channel in device.channels}
        for channel in sorted(channels):
            self.publish(channel, self.load.rate, self.load.padding)
        self._spawn(sample_places(self.redis.server_of, self.prefix, self.load.devices, self.trace))
        for number, node in enumerate(self.nodes):
            self._spawn(sample_readiness(node, number, self.trace))
        await self.everybody_listens()

    def let_work(self, backend: Backend) -> None:
        """Let a backend do its work until the end."""
        self._publishers.append(backend)
        self._publishing.append(self._spawn(backend.run()))

    def let_settle(self, step: Callable[[], Awaitable[None]]) -> None:
        """Wait for this in the end, when no backend does anything more and before the nodes end."""
        self._settling.append(step)

    def add_client(
        self, device: Device, url: str, kind: Callable[..., PlainClient] = PlainClient
    ) -> PlainClient:
        """Let one more device connect."""
        assert self._session is not None
        client = kind(self._session, url, device, self.load.reload_seconds)
        self.trace.devices.append(device)
        self.clients.append(client)
        self._spawn(client.run())
        return client

    def publish(
        self, channel: str, rate: float, padding: int, *, keyed: bool = True, **options: Any
    ) -> None:
        """Let a backend publish to a channel from now on; ``options`` are ``NumberedPublisher``'s."""
        publisher = self._publisher if keyed else self._once
        assert publisher is not None
        numbered = NumberedPublisher(
            publisher, channel, self.trace, self.dice, rate, padding, keyed=keyed, **options
        )
        self.let_work(numbered)

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

    @property
    def listening(self) -> list[PlainClient]:
        """Those of them that stay, unless something is wrong."""
        return [client for client in self.subscribed if client.device.user in self.load.devices]

    async def everybody_listens(self, within: float = 20.0) -> None:
        """Return once all are back who may be. Who lacks a grant now need not be."""

        try:
            await until(lambda: len(self.listening) >= self.expected, within)
        except TimeoutError:
            missing = [each.describe() for each in self.clients if not each.subscribed]
            raise AssertionError("\n".join(["not back:", *missing])) from None

    async def published(self, more: int) -> None:
        """Return once so many more messages have been published."""
        goal = len(self.trace.publications) + more
        await until(lambda: len(self.trace.publications) >= goal, 30.0)

    async def finish(self) -> Trace:
        """Stop publishing, let everything arrive, let everybody leave, and hand over what happened."""
        for publisher in self._publishers:
            publisher.stop()
        async with asyncio.timeout(_STOP_SECONDS):
            await asyncio.gather(*self._publishing, self.process.stop())
        self.trace.attempts += self.process.attempts()
        self.trace.publications += self.process.publications()
        for step in self._settling:
            await step()
        with contextlib.suppress(TimeoutError):  # what is missing then is in the trace
            await until(self._is_settled, _SETTLE_SECONDS)
        self.trace.ended_at = time.monotonic()
        await self.aclose()
        await self._leave()
        return self.trace

    async def _leave(self) -> None:
        """End the nodes in order, and see what stays in Redis and in the logs."""
        await asyncio.gather(*(node.terminate() for node in self.nodes if node.running))
        gc.collect()  # asyncio complains of a task that nobody has waited for when it is collected
        await self.redis.settle()
        for server in self.redis.primaries:
            async with redis.asyncio.Redis(port=server.port) as client:
                self.trace.keys_left += await keys_left(client, self.prefix)
        self.trace.logged = await numbers_in_logs(self.redis.server_of, self.prefix, self.trace)
        events_server = self.redis.server_of(Keys(self.prefix).events)
        async with redis.asyncio.Redis(port=events_server.port) as client:
            self.trace.events = await events_in(client, self.prefix)
        for number, node in enumerate(self.nodes):
            self.trace.log_lines += lines(f"node {number}", node.output)
            self.trace.killed |= node.killed
            self.trace.dead_nodes |= node.killed.keys() | self._could_give_nothing_back(number)
        self.trace.log_lines += self.process.log_lines()

    def _could_give_nothing_back(self, number: int) -> set[str]:
        """Ids of nodes that ended in order, but while Redis was in trouble."""
        troubles = [
            each
            for each in self.trace.occurrences
            if number in each.nodes and each.name != "node_replaced"
        ]
        return {
            id_
            for ids, interval in self.nodes[number].ended
            for id_ in ids
            if any(interval.overlap(each.begun_at, each.recovered_at) for each in troubles)
        }

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
            here = [newest[name].id for name in device.channels if name in newest]
            if any((device.user, id_) not in had for id_ in here):
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

    # -- faults -------------------------------------------------------------------------------

    def lead_to_redis(self) -> None:
        """Let every way lead to the single Redis that is in use now."""
        for proxy in (self.backend, *(node.redis for node in self.nodes)):
            proxy.targets = [self.server.port]
            proxy.cut()

    @contextlib.asynccontextmanager
    async def fault(self, name: str, *nodes: Node) -> AsyncIterator[Occurrence]:
        """Note that a fault begins and ends with the block; returns when all nodes are served again.

        Args:
            name: as the tables of ``logs.py`` and ``turns.py`` have it.
            nodes: those that it touches. Without any, nobody is waited for.
        """
        begun = time.monotonic()
        occurrence = Occurrence(name, tuple(map(self.nodes.index, nodes)), begun)
        self.trace.occurrences.append(occurrence)
        try:
            yield occurrence
        finally:
            occurrence.ended_at = occurrence.recovered_at = time.monotonic()
        if nodes:
            try:
                await until(self._all_served, _RECOVERY_SECONDS)
            finally:
                occurrence.recovered_at = time.monotonic()
                self.trace.outages.append(Interval(begun, occurrence.recovered_at))

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """A fault that a test makes by its own hands."""
        async with self.fault("of the test's own", *self.nodes):
            yield

    async def _all_served(self) -> bool:
        """Whether every node that runs is served by Redis; who was killed or frozen meanwhile is left out."""
        for node in self.nodes:
            if node.frozen:
                continue
            with contextlib.suppress(RuntimeError):
                if not await node.served():
                    return False
        return True


def _waits(session: Session, newest: dict[str, Publication]) -> bool:
    """Whether a channel's newest message, published since its subscribe was answered, has yet to come."""
    had = {each.id for each in session.arrivals[-50:]}
    return any(
        newest[channel].asked_at > answered_at and newest[channel].id not in had
        for channel, answered_at in session.answered.items()
        if channel in newest
    )
