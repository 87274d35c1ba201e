"""Three nodes in this process, a real Redis, the lines between them, and the tenants who share it all."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp

from gateway.node.hub import Hub
from publisher import AsyncPublisher
from tests.faults.proxy import Proxy
from tests.faults.redis_servers import RedisServers, redis_servers
from tests.model.record import Fault, Record, Token
from tests.model.visitors import NotLetIn, Visitor, visitor
from tests.support.nodes import Node, running_node
from tests.support.waiting import until

NODES: Final = 3
TENANTS: Final[dict[str, tuple[str, ...]]] = {
    "acme": ("ann", "b|en", "*"),
    "umbra": ("}cy", "dee", "d{e}e"),
}
"""Users by tenant; some have ids that mean something elsewhere."""
USERS: Final = tuple(user for users in TENANTS.values() for user in users)
_KEPT: Final = {"max_messages": 100_000, "max_age_seconds": 86_400}
NAMESPACES: Final = {
    "acme": {"owner": "grant", "retention": _KEPT},
    "umbra": {"owner": "grant", "retention": _KEPT, "encrypted": True},
    "live": {"owner": "grant", "retention": None},
    "notifications": {"owner": "user", "retention": _KEPT},
}
_RING: Final = f"k1:{base64.b64encode(bytes(32)).decode()}"
CHANNELS: Final = {
    tenant: (f"{tenant}/1", f"{tenant}/2", f"{tenant}/*", f"live/{tenant}") for tenant in TENANTS
}
"""By tenant: what its backend grants. One id is a star, which is no pattern in a name."""
OWN: Final = tuple(f"notifications/{user}" for user in USERS)
EVERY_CHANNEL: Final = (*(name for names in CHANNELS.values() for name in names), *OWN)

_LATENESS_SECONDS: Final = 0.02
_READY_SECONDS: Final = 30.0
_CALL_SECONDS: Final = 60.0
_SETTINGS: Final = {
    "jwt_leeway_seconds": 0,
    "node_lease_seconds": 5,
    "failed_authentications_per_minute": 100_000,
    "client_messages_per_second": 1_000,
    "client_message_burst": 10_000,
    "namespaces": NAMESPACES,
    "encryption_keys": _RING,
}


class Place:
    """Where a node runs, and after it the next one."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.way = Proxy(world.servers.primaries[0].port)
        self._world = world
        self._stack = contextlib.AsyncExitStack()
        self._node: Node | None = None

    @property
    def url(self) -> str:
        """Where clients connect; nothing is there while the node is replaced."""
        return self._node.url if self._node is not None else "ws://127.0.0.1:9"

    @property
    def hub(self) -> Hub | None:
        """That of the node; ``None`` while it is replaced."""
        return None if self._node is None else self._node.gateway.hub

    @property
    def ready(self) -> bool:
        """Whether it takes clients in."""
        return self._node is not None and self._node.gateway.ready()

    async def start(self) -> None:
        """Start a node, and wait until it is ready."""
        world = self._world
        url = world.servers.url(self.way)
        node = running_node(url, world.prefix, **_SETTINGS)
        self._node = await self._stack.enter_async_context(node)

    async def stop(self) -> None:
        """End it in order."""
        self._node = None
        await self._stack.aclose()


class World:
    """``visitors`` are the clients that are connected, or were a moment ago."""

    def __init__(self, servers: RedisServers, record: Record, dice: random.Random) -> None:
        self.servers = servers
        self.record = record
        self.dice = dice
        self.prefix = f"m{secrets.token_hex(4)}"
        self.visitors: list[Visitor] = []
        self.places: list[Place] = []
        self.publisher: AsyncPublisher
        self.session: aiohttp.ClientSession
        self.tasks: set[asyncio.Task[None]] = set()
        self.now = asyncio.get_running_loop().time
        self._calls = 0
        self._open = asyncio.Event()
        self._open.set()

    @property
    def here(self) -> list[Visitor]:
        """The clients that are connected."""
        return [each for each in self.visitors if each.here]

    async def connect(self, token: Token, place: Place | None = None) -> Visitor | None:
        """A client comes with a token, to any node unless given; ``None`` where it is not let in."""
        place = place or self.dice.choice(self.places)
        if (hub := place.hub) is None:
            return None
        try:
            one = await visitor(self.record, self.session, place.number, place.url, hub, token)
        except NotLetIn:
            return None
        self.visitors = [*self.here, one]
        self.spawn(one.listen())
        return one

    def spawn(self, work: object) -> None:
        """Let something go on by itself; what it raises is told in the end."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self.tasks.add(task)

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """A backend asks for something that Redis keeps; nobody does while that is :meth:`quiet`."""
        await self._open.wait()
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """What backends have asked for is done, and nothing more is asked for until the block ends."""
        self._open.clear()
        try:
            await until(lambda: not self._calls, _CALL_SECONDS)
            yield
        finally:
            self._open.set()

    async def all_ready(self) -> None:
        """Return once every node takes clients in."""
        await until(lambda: all(place.ready for place in self.places), _READY_SECONDS)

    @contextlib.asynccontextmanager
    async def fault(self, name: str, place: Place | None = None) -> AsyncIterator[None]:
        """Something is broken until the block ends, and the nodes are ready again; told with its times."""
        begun = self.now()
        number = None if place is None else place.number
        index = len(self.record.faults)
        self.record.faults.append(Fault(name, number, begun, math.inf))
        self.record.count(name)
        try:
            yield
            await self.all_ready()
        finally:
            self.record.faults[index] = Fault(name, number, begun, self.now())

    async def look(self) -> None:
        """Note by how much the event loop is late, for ever."""
        while True:
            before = self.now()
            await asyncio.sleep(_LATENESS_SECONDS)
            now = self.now()
            self.record.late.note(now, now - before - _LATENESS_SECONDS)


class _Errors(logging.Handler):
    """Writes down what nodes log at ERROR."""

    def __init__(self, record: Record) -> None:
        super().__init__(logging.ERROR)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        self._record.errors.append(record.getMessage())


@contextlib.asynccontextmanager
async def running_world(folder: Path, record: Record, dice: random.Random) -> AsyncIterator[World]:
    """All of it, until the block ends."""
    record.logged = frozenset((*TENANTS, "notifications"))
    servers = redis_servers(folder, replicated=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(servers.aclose)
        await servers.start()
        world = World(servers, record, dice)
        errors = _Errors(record)
        logging.getLogger("gateway").addHandler(errors)
        stack.callback(logging.getLogger("gateway").removeHandler, errors)
        way = Proxy(servers.primaries[0].port)
        for number in range(NODES):
            world.places.append(Place(world, number))
        for each in (way, *(place.way for place in world.places)):
            await each.start()
            stack.push_async_callback(each.aclose)
        for place in world.places:
            stack.push_async_callback(place.stop)
            await place.start()
        world.publisher = await stack.enter_async_context(
            AsyncPublisher.from_url(servers.url(way), prefix=world.prefix, encryption_keys=_RING)
        )
        # It goes first, so that no node waits for the clients' answers.
        world.session = await stack.enter_async_context(aiohttp.ClientSession())
        world.spawn(world.look())
        try:
            yield world
        finally:
            for task in world.tasks:
                task.cancel()
            ended = await asyncio.gather(*world.tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error
