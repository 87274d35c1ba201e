"""What a node hears of Redis, and by which probes it knows that it hears: over one connection, or those of a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import ResponseError

from gateway.backplane.cluster_calls import ClusterCalls
from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.health import Probe
from gateway.backplane.pubsub import ListeningTime, MakeReader, Names, Subscriber
from gateway.backplane.redis_connections import ClusterConnections, RedisConnections
from gateway.backplane.shards import Shards, ShardSubscriber
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks, keep_going
from publisher.contract.calls import Call, Reply
from publisher.errors import Unavailable
from publisher.transport.connection import opened
from publisher.transport.primary import OneServer
from publisher.transport.redis_py import Host, shown


@dataclass(frozen=True, slots=True)
class Events:
    """What is reported, for others to act on.

    ``listens``: whether commands to all nodes are heard. ``restored``: anything may have gone unheard. ``missed``: the
    pub/sub names on which something may have. ``returned``: a server of several is there again.
    """

    listens: Callable[[bool], None]
    restored: Callable[[], None]
    missed: Callable[[list[str]], None]
    returned: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What subscribers and probes are made of. ``probe``: what the names of probes begin with."""

    make_reader: MakeReader
    listening: ListeningTime
    stats: Stats
    tasks: Tasks
    jitter: Callable[[], float]
    probe: str


class Hearing:
    """One server: one connection brings everything."""

    def __init__(self, redis: RedisConnections, parts: Parts, events: Events) -> None:
        self._redis = redis
        self._parts = parts
        self._events = events
        connect = partial(opened, redis.primary, redis.upkeep_seconds)
        self.control = Subscriber(
            connect, parts.make_reader, parts.listening, self._change, parts.stats, parts.jitter
        )
        self.channels: Names = self.control
        self.probe = Probe(self.control, redis.health, parts.probe, parts.listening, parts.stats)

    def _change(self, listening: bool) -> None:
        self._events.listens(listening)
        if listening:
            self.probe.recheck()
            self._events.restored()

    @property
    def connected(self) -> bool:
        """Whether what comes is heard."""
        return self.control.connected

    @property
    def heard(self) -> bool:
        """Whether the node has heard itself a moment ago."""
        return self.probe.heard

    def servers(self) -> dict[str, bool]:
        """Which servers there are, and whether the node hears itself through each."""
        return {self._redis.address: self.connected and self.heard}

    def is_down(self, _key: str) -> bool:
        """Whether the server that has a key is away while others serve: there is only one."""
        return False

    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """What runs as long as the node."""
        return self.control.run, self.probe.run

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise."""
        self.control.throttle(throttled)


log = logging.getLogger(__name__)

_TAGS_AT_ONCE: Final = 5_000
"""Hash tags that are tried before the event loop has its turn: 5 ms. A primary with a single slot may need more."""


class ShardProbe(Probe):
    """A probe through one primary of a cluster, under names of slots that are its own."""

    def __init__(self, map_: ClusterMap, host: Host, *parts: Any) -> None:
        super().__init__(*parts)
        self._map = map_
        self._host = host
        self._tags = map(str, count())
        self._tag = next(self._tags)
        self._serves = True

    @property
    def heard(self) -> bool:
        """Whether the node hears itself there, and the primary carries out commands."""
        return self._serves and super().heard

    def _next_name(self, number: int) -> str:
        if not self._is_own(self._tag):
            # Where none is found the name is refused, and the search goes on with the next one.
            further = islice(self._tags, _TAGS_AT_ONCE)
            self._tag = next(filter(self._is_own, further), self._tag)
        return f"{self._name}:{number}:{{{self._tag}}}"

    def _is_own(self, tag: str) -> bool:
        slots = self._map.known.slots
        return slots is not None and slots.owner(key_slot(tag.encode())) == self._host

    def _command(self, name: str) -> Call:
        return Call(("SPUBLISH", name, b""))

    async def _publish(self, name: str) -> int | None:
        _, subscribers = await asyncio.gather(self._ask_for(name), super()._publish(name))
        return subscribers

    async def _ask_for(self, name: str) -> None:
        """Ask for a key.

        A replica takes a probe as a primary does, and leads whoever asks it for a key elsewhere. And a cluster that
        counts as down (CLUSTERDOWN, by default whenever any slot has no server) goes on taking probes.
        """
        try:
            await self._pipeline.call(Call(("EXISTS", name)))
        except Unavailable:
            self._serves = False
        else:
            self._serves = True


class _ToOneServer:
    """Calls to the server on which control commands are listened to."""

    def __init__(self, calls: ClusterCalls, at: AnyPrimary) -> None:
        self._calls = calls
        self._at = at

    async def call(self, call: Call) -> Reply:
        if self._at.host is None:
            raise Unavailable("no primary is known", maybe_sent=False)
        return await self._calls.at(self._at.host).call(call)


class AnyPrimary:
    """Leads connections to one of the primaries; which does not matter, as they tell each other. Implements ``Server``."""

    def __init__(self, map_: ClusterMap) -> None:
        self._map = map_
        self.host: Host | None = None

    def __call__(self) -> Any:
        """A new connection, which :meth:`open` leads somewhere."""
        return self._map.cluster.servers()

    async def open(self, connection: Any) -> None:
        """Open a connection.

        Raises:
            RedisError, OSError: it could not be opened.
            Unavailable: no primary is known.
        """
        self.host = host = self._map.any_primary()
        try:
            await OneServer(self._map.cluster.servers).open(self._led(connection, host))
        except BaseException:  # one that takes too long is cancelled
            self._map.known.doubt(host)
            raise

    def _led(self, connection: Any, host: Host) -> Any:
        connection.host, connection.port = host
        return connection


class ClusterHearing:
    """A cluster: a connection and a probe for each primary that owns slots, and one for commands to all nodes."""

    def __init__(self, redis: ClusterConnections, parts: Parts, events: Events) -> None:
        self._redis = redis
        self._parts = parts
        self._events = events
        self._map = redis.map
        self._any = AnyPrimary(self._map)
        self.control = Subscriber(
            partial(opened, self._any, redis.upkeep_seconds),
            parts.make_reader,
            parts.listening,
            self._change,
            parts.stats,
            parts.jitter,
        )
        to_one: Any = _ToOneServer(redis.health, self._any)
        self.probe = Probe(self.control, to_one, parts.probe, parts.listening, parts.stats)
        self.shards = Shards(self._map, self._make, events.missed)
        self.channels: Names = self.shards
        self._probes: dict[Host, ShardProbe] = {}
        self._running: dict[Host, list[asyncio.Task[None]]] = {}
        redis.changed = self._follow

    # -- the primaries ------------------------------------------------------------------------

    def _make(
        self, host: Host, lost: Callable[[str, ResponseError | None], None]
    ) -> ShardSubscriber:
        parts = self._parts

        def lost_here(name: str, error: ResponseError | None) -> None:
            if name.startswith(parts.probe):
                self._map.refused(host, error)
                probe.renew()
            else:
                lost(name, error)

        shard = ShardSubscriber(
            partial(opened, OneServer(self._map.cluster.at(host)), self._redis.upkeep_seconds),
            parts.make_reader,
            parts.listening,
            partial(self._shard_changed, host),
            parts.stats,
            parts.jitter,
            lost=lost_here,
        )
        probe = self._probes[host] = ShardProbe(
            self._map,
            host,
            shard,
            self._redis.health.at(host),
            parts.probe,
            parts.listening,
            parts.stats,
        )
        self._running[host] = [
            parts.tasks.spawn(keep_going(work), f"{work.__qualname__} {shown(host)}")
            for work in (shard.run, probe.run)
        ]
        return shard

    def _follow(self) -> None:
        """Slots have other owners."""
        self.shards.follow()
        for host in self._running.keys() - set(self._map.primaries):
            for task in self._running.pop(host):
                task.cancel()
            del self._probes[host]
        if self._any.host is not None and self._any.host not in self._map.primaries:
            # One that was taken out of the cluster hears nothing of the others.
            self.control.move()

    def _shard_changed(self, host: Host, listening: bool) -> None:
        if host in self._probes and listening:
            log.info("primary_reached server=%s", shown(host))
        elif host in self._probes:
            log.warning("primary_lost server=%s", shown(host))
        if listening and host in self._probes:
            self._probes[host].recheck()
            self.shards.restored(host)
            self._events.returned()

    def _change(self, listening: bool) -> None:
        self._events.listens(listening)
        if listening:
            self.probe.recheck()

    # -- what works ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether commands to all nodes are heard."""
        return self.control.connected

    @property
    def heard(self) -> bool:
        """Whether the node hears itself through more than half of the primaries, and commands as well."""
        up = list(self.servers().values())
        return self.probe.heard and 2 * sum(up) > len(up)

    def servers(self) -> dict[str, bool]:
        """The primaries that own slots, and whether the node hears itself through each."""
        return {shown(host): self._is_up(host) for host in self._map.primaries}

    def _is_up(self, host: Host) -> bool:
        shard, probe = self.shards.of.get(host), self._probes.get(host)
        return bool(shard and probe and shard.connected and probe.heard)

    def is_down(self, key: str) -> bool:
        """Whether the primary that has a key is away: from then on until ``Events.returned`` is told."""
        try:
            shard = self.shards.of.get(self._map.known.owner(key))
        except Unavailable:
            return True
        return shard is None or not shard.connected

    def _silent(self) -> list[Host]:
        # A server that hangs keeps its connections open.
        return [host for host in self._map.primaries if not self._is_up(host)]

    async def _run_map(self) -> None:
        await self._map.run(self._silent)

    async def _run_control(self) -> None:
        await asyncio.wait([self._map.asked])  # before that no primary is known
        await self.control.run()

    def loops(self) -> tuple[Callable[[], Coroutine[None, None, None]], ...]:
        """What runs as long as the node; each primary's run as long as it is one."""
        return self._run_map, self._run_control, self.probe.run

    def throttle(self, throttled: bool) -> None:
        """Read nothing until told otherwise."""
        self.control.throttle(throttled)
        self.shards.throttle(throttled)


def hearing(
    redis: RedisConnections | ClusterConnections, parts: Parts, events: Events
) -> Hearing | ClusterHearing:
    """What fits these connections."""
    if isinstance(redis, ClusterConnections):
        return ClusterHearing(redis, parts, events)
    return Hearing(redis, parts, events)
