"""A trial of Redis: once all that a node does there, for ``gateway check``."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.backplane.health import NodeEntry
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.redis_connections import ClusterConnections
from gateway.backplane.store import GrantReader
from gateway.node.ports import Claim
from gateway.node.stats import Stats
from publisher.contract import rights
from publisher.contract.calls import Call, Command, read_log
from publisher.contract.keys import Keys
from publisher.errors import Rejected, Unavailable
from publisher.transport.cluster import Cluster
from publisher.transport.connection import Reader, Server, answers, opened
from publisher.transport.failures import FAILURES, code, meaning, unavailable
from publisher.transport.pipeline import Calls, Pipeline
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import shown
from publisher.transport.resp import pack
from publisher.transport.topology import Topology

_LEASE_SECONDS: Final = 10.0
_USER: Final = "check"
_CHANNEL: Final = f"notifications/{_USER}"
_AFTER_THE_RIGHTS: Final = frozenset(
    {"", "NOSCRIPT", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"}
)
"""What Redis looks at only once the rights are there; in a cluster most keys are another server's."""

_OTHER_USER: Final = (
    "this Redis user may not publish or grant (it lacks {missing}): "
    "backends need a Redis user of their own, see docs/deployment.md"
)

# What the reason of a refused call does not say by itself; ``{database}`` is the number in the URL.
_HINTS: Final = (
    ("READONLY", "this server is a replica: name its primary"),
    ("OOM", "maxmemory is reached: give Redis more memory"),
    (
        "CLUSTERDOWN",
        "this is a server of a Redis Cluster, which is named by redis+cluster://, or some of its slots have no server",
    ),
    ("DB index", "this server has no database {database}"),
)


@dataclass(frozen=True, slots=True)
class Redis:
    """What is tried: ``servers`` by their addresses, for calls and for ``listening``, and where a call goes by itself."""

    servers: Mapping[str, Pipeline]
    listening: Mapping[str, Server]
    calls: Calls
    server_of: Callable[[str], str]
    """The address of the one that has a key or a name."""


@contextlib.asynccontextmanager
async def connected(topology: Topology, seconds: float) -> AsyncIterator[Redis]:
    """Connections that last as long as the block; a call may take ``seconds``.

    Raises:
        Unavailable: no server of a cluster says who its primaries are.
    """
    if topology.cluster is not None:
        async with _connected_to_cluster(topology.cluster, seconds) as redis:
            yield redis
        return
    primary = topology.for_loop()
    pipeline = Pipeline(primary, None, seconds)
    try:
        address = topology.address
        yield Redis({address: pipeline}, {address: primary}, pipeline, lambda _key: address)
    finally:
        await pipeline.aclose()
        await primary.aclose()


@contextlib.asynccontextmanager
async def _connected_to_cluster(cluster: Cluster, seconds: float) -> AsyncIterator[Redis]:
    connections = ClusterConnections(cluster, Stats(), seconds)
    known, calls = connections.map, connections.calls
    try:
        await known.learn()
        yield Redis(
            {shown(host): calls.at(host) for host in known.primaries},
            {shown(host): OneServer(cluster.at(host)) for host in known.primaries},
            calls,
            connections.server_of,
        )
    finally:
        await connections.aclose()


@dataclass(slots=True)
class Trial:
    """Does once what a node does, under a prefix of its own below that of the settings (``keys``).

    So the rights to all keys and channels of the settings' prefix are tried, at each server, and nobody is disturbed.
    What only a publisher does is tried without changing anything; ``hints`` says whether backends need another user.

    Args:
        seconds: what a call may take.
        events: whether backends are told of events.
        api: whether backends call by the HTTP API.
    """

    seconds: float
    redis: Redis
    keys: Keys
    events: bool
    api: bool
    hints: list[str] = field(default_factory=list)
    _failed: dict[str, list[str]] = field(default_factory=dict)

    async def problems(self) -> list[str]:
        """What does not work, each reason once."""
        name = f"check-{secrets.token_hex(6)}"
        keys = self.keys.below(name)
        try:
            await self._step("use the commands of a node", lambda: self._node_rights(keys))
            await self._connections(keys, name)
            await self._messages(keys)
            await self._subscriptions(keys)
            await self._backends(keys)
        finally:
            await self._step("clean up", lambda: self._clean_up(keys))
        return [
            f"Redis: cannot {', '.join(steps)}: {explained(reason, self.keys.database)}"
            for reason, steps in self._failed.items()
        ]

    async def _node_rights(self, keys: Keys) -> None:
        # Whatever is missing at a server that has none of our keys yet is missed when it gets some. HSET is cleaned up.
        told = rights.to_tell(keys) if self.events else ()
        calls = [*rights.to_serve(keys), *told, ("HSET", keys.namespaces, "check", "{}")]
        await self._all_allowed(calls, rights.to_listen(keys))

    async def _all_allowed(
        self, calls: Sequence[Command], listening: Sequence[Command] = ()
    ) -> None:
        """See to it that the user has the rights to these commands.

        Raises:
            Rejected: some are lacking at a server.
        """
        lacking = {}
        for address in self.redis.servers:
            missing = await self._missing(address, calls, listening)
            lacking[address] = [f"the user lacks the rights {' '.join(missing)}"] if missing else []
        if any(lacking.values()):
            raise Rejected("; ".join(of_all(lacking)), maybe_sent=False)

    async def _backends(self, keys: Keys) -> None:
        if self.api:
            calls = rights.to_serve_backends(keys)
            await self._step("do what the HTTP API does", lambda: self._all_allowed(calls))
        else:
            await self._step("publish and grant", lambda: self._publisher_rights(keys))

    async def _publisher_rights(self, keys: Keys) -> None:
        uses = (rights.to_publish, rights.to_grant, rights.to_revoke)
        calls = [command for use in uses for command in use(keys)]
        hints = {}
        for address in self.redis.servers:
            # What a node lacks too has been told.
            missing = [
                rule
                for rule in await self._missing(address, calls)
                if rule not in rights.of_a_gateway(self.keys)
            ]
            hints[address] = [_OTHER_USER.format(missing=" ".join(missing))] if missing else []
        self.hints += of_all(hints)

    async def _missing(
        self, address: str, calls: Sequence[Command], listening: Sequence[Command] = ()
    ) -> list[str]:
        """Which rules of an ACL these commands lack at a server.

        Raises:
            Unavailable: there was no answer, or an error of another kind.
        """
        try:
            replies = await self.redis.servers[address].round_trip(list(calls))
            if listening:
                server = self.redis.listening[address]
                replies = [*replies, *await answers(server, listening, self.seconds)]
            refused = []
            for command, reply in zip((*calls, *listening), replies, strict=True):
                if code(reply) == "NOPERM":
                    refused.append((command, str(reply)))
                elif code(reply) not in _AFTER_THE_RIGHTS:
                    raise meaning(reply)
        except FAILURES as error:
            failed = unavailable(error, maybe_sent=False)
            raise Unavailable(self._named(address, failed.reason), maybe_sent=False) from error
        return rights.missing(self.keys, refused)

    def _named(self, address: str, reason: str) -> str:
        """A reason with the server that it is about, where there are several."""
        several = len(self.redis.servers) > 1 and address not in reason
        return f"{address}: {reason}" if several else reason

    async def _connections(self, keys: Keys, name: str) -> None:
        entry = NodeEntry(keys, name, _LEASE_SECONDS)
        table = PlaceTable(keys, name, 1, _LEASE_SECONDS)
        for purpose, call in (
            ("keep the list of nodes", entry.renew()),
            ("ask which nodes live", table.living()),
            ("take a place for a connection", table.take(Claim(_USER, "1"))),
            ("renew a place", table.renew(_USER, {"1": 1})),
            ("release a place", table.release(_USER, "1")),
            ("announce namespaces", Call(("HSET", keys.namespaces, "check", "{}"))),
            ("mark the data", Call(("SET", keys.marker, name, "NX", "GET"))),
            ("send commands to the nodes", Call(("PUBLISH", keys.control, b""))),
        ):
            await self._call(purpose, call)
        # Publishers would take it for one of the namespaces.
        await self._call("withdraw namespaces", Call(("EXPIRE", keys.namespaces, 0)))

    async def _messages(self, keys: Keys) -> None:
        """Send to a channel, hear it, and read the channel's log."""
        name = keys.live(_CHANNEL)
        heard: asyncio.Queue[Any] = asyncio.Queue()
        async with contextlib.AsyncExitStack() as stack:

            async def listen() -> None:
                transport = await stack.enter_async_context(
                    opened(self.redis.listening[self.redis.server_of(name)], self.seconds)
                )
                reader = Reader(transport, heard.put_nowait)
                reader.write(pack((keys.subscribe, name)))
                if isinstance(reply := await heard.get(), ResponseError):
                    raise meaning(reply)

            async def hear() -> None:
                await self.redis.calls.call(Call((keys.publish, name, b"")))
                try:
                    async with asyncio.timeout(self.seconds):
                        await heard.get()
                except TimeoutError:
                    self._fail("hear what was published", "no message came in time")

            if await self._step("listen to messages", listen, name):
                await self._step("send messages", hear, name)
        await self._call("read the log", read_log(keys, _CHANNEL, _USER, 0, 1))

    async def _subscriptions(self, keys: Keys) -> None:
        key = keys.confirmed(_CHANNEL)
        grants = GrantReader(self.redis.calls, keys, Stats())
        await self._step(
            "read grants", lambda: grants.remaining(_CHANNEL, _USER), keys.grant(_CHANNEL)
        )
        await self._call("write positions", Call(("ZADD", key, "GT", 1, _USER)))

    async def _clean_up(self, keys: Keys) -> None:
        of_the_node = keys.nodes, keys.namespaces, keys.marker
        for key in (*of_the_node, keys.connections(_USER), keys.confirmed(_CHANNEL)):
            await self.redis.calls.call(Call(("EXPIRE", key, 0)))

    async def _call(self, purpose: str, call: Call) -> None:
        await self._step(purpose, lambda: self.redis.calls.call(call), call.key)

    async def _step(
        self, purpose: str, work: Callable[[], Awaitable[object]], key: str | None = None
    ) -> bool:
        """Do ``work``, which is about ``key``; what fails is noted, by its reason."""
        if any(reason.endswith("in time") for reason in self._failed):
            return False  # a server that hangs is waited for once
        try:
            async with asyncio.timeout(2 * self.seconds):
                await work()
        except FAILURES as error:
            reason = unavailable(error, maybe_sent=False).reason
            if key is not None:
                reason = self._named(self.redis.server_of(key), reason)
            self._fail(purpose, reason)
        else:
            return True
        return False

    def _fail(self, purpose: str, reason: str) -> None:
        self._failed.setdefault(reason, []).append(purpose)


def explained(reason: str, database: int) -> str:
    """A reason, with what to do about it where that is known."""
    hints = [hint for sign, hint in _HINTS if sign in reason]
    return f"{reason} ({hints[0].format(database=database)})" if hints else reason


def of_all(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Each finding once, with the servers that it is true of where it is not true of all."""
    servers: dict[str, list[str]] = {}
    for address, findings in found.items():
        for each in findings:
            servers.setdefault(each, []).append(address)
    return [
        finding if len(of) == len(found) else f"{', '.join(of)}: {finding}"
        for finding, of in servers.items()
    ]
