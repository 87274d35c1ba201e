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

from gateway.backplane.any_primary import AnyPrimary, ToOneServer
from gateway.backplane.cluster_map import ClusterMap
from gateway.backplane.health import DEADLINE_SECONDS, Probe
from gateway.backplane.pubsub import ListeningTime, MakeReader, Names, Subscriber
from gateway.backplane.redis_connections import ClusterConnections, RedisConnections
from gateway.backplane.shards import Shards, ShardSubscriber
from gateway.node.stats import Stats
from gateway.node.tasks import Tasks, keep_going
from publisher.contract.calls import Call
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
            connect,
            lambda: redis.address,
            parts.make_reader,
            parts.listening,
            self._change,
            parts.stats,
            parts.jitter,
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
_LOOK_SECONDS: Final = 0.1
"""So often it is looked which primaries hang."""
_BEHIND_SECONDS: Final = 1.25
"""When others have been heard so much later than the primary that brings the commands, another one has to bring them:
before the nodes, all at once, are not ready for that."""


_FIRST_SECONDS: Final = 2.0
"""So long a node that starts waits for the last primaries; one may be down. When it hears a further one it asks for its lease
again, and would be unready for that though it had been ready."""


class ShardProbe(Probe):
    """A probe through one primary of a cluster, under names of slots that are its own.

    ``serves``: whether the primary has carried out the last command that it was asked for.
    """

    def __init__(self, map_: ClusterMap, host: Host, *parts: Any) -> None:
        super().__init__(*parts)
        self._map = map_
        self._host = host
        self._tags = map(str, count())
        self._tag = next(self._tags)
        self.serves = True

    @property
    def heard(self) -> bool:
        """Whether the node hears itself there, and the primary carries out commands."""
        return self.serves and super().heard

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
            self.serves = False
        else:
            self.serves = True


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
            lambda: self._any.address,
            parts.make_reader,
            parts.listening,
            self._change,
            parts.stats,
            parts.jitter,
        )
        to_one: Any = ToOneServer(redis.health, self._any)
        self.probe = Probe(self.control, to_one, parts.probe, parts.listening, parts.stats)
        self.shards = Shards(self._map, self._make, events.missed)
        self.channels: Names = self.shards
        self._probes: dict[Host, ShardProbe] = {}
        self._running: dict[Host, list[asyncio.Task[None]]] = {}
        # Those that say nothing though the connection to them is there.
        self._hanging: set[Host] = set()
        # Whether all were heard once, or waited for long enough; and when that will be, once they are known.
        self._begun = False
        self._begins_at = float("inf")
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
            lambda: shown(host),
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
        self._begins_at = min(self._begins_at, self._parts.listening.seconds + _FIRST_SECONDS)
        self.shards.follow()
        for host in self._running.keys() - set(self._map.primaries):
            for task in self._running.pop(host):
                task.cancel()
            del self._probes[host]

    def _shard_changed(self, host: Host, listening: bool) -> None:
        if host not in self._probes:
            return
        if listening:
            self._probes[host].recheck()
            self.shards.restored(host)
            self._note_return(host)
        elif host not in self._hanging:
            self._note_loss(host)
        self._hanging.discard(host)

    def _note_loss(self, host: Host) -> None:
        log.warning("primary_lost server=%s", shown(host))

    def _note_return(self, host: Host) -> None:
        log.info("primary_reached server=%s", shown(host))
        self._events.returned()

    def _change(self, listening: bool) -> None:
        self._events.listens(listening)
        if listening:
            self.probe.recheck()

    # -- what hangs ---------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look until cancelled."""
        while True:
            self._note_beginning()
            self._note_hanging()
            # While none is open, the next one is led to a primary that answers anyway.
            if self.control.received is not None and self._is_astray():
                self._any.avoid()
                self.control.move()
            await asyncio.sleep(_LOOK_SECONDS)

    def _note_beginning(self) -> None:
        if not self._begun:
            waited = self._parts.listening.seconds >= self._begins_at
            self._begun = waited or (bool(self._probes) and not self._silent())

    def _note_hanging(self) -> None:
        before = self._hanging
        self._hanging = {host for host in self._probes if self._hangs(host)}
        for host in self._hanging - before:
            self._note_loss(host)
        for host in before - self._hanging:
            if not self._is_lost(host):
                self._note_return(host)

    def _hangs(self, host: Host) -> bool:
        """Whether a primary says nothing though its connection is there, while others do."""
        if self._is_lost(host) or self._probes[host].heard:
            return False
        return host in self._hanging or self._behind(host) > DEADLINE_SECONDS

    def _behind(self, host: Host) -> float:
        """Seconds by which others that are up were heard later."""
        since = self._probes[host].since
        return max((other.since for other in self._others(host)), default=since) - since

    def _others(self, host: Host | None) -> list[ShardProbe]:
        """The probes of the other primaries that are up."""
        return [probe for at, probe in self._probes.items() if at != host and self._is_up(at)]

    def _is_lost(self, host: Host | None) -> bool:
        shard = self.shards.of.get(host) if host else None
        return shard is None or not shard.connected

    def _is_astray(self) -> bool:
        """Whether the connection for commands has to lead elsewhere.

        A primary that was taken out of the cluster, or that does not count itself to it (``CLUSTERDOWN``), hears
        nothing of the others. Of one that hangs nothing is heard.
        """
        host = self._any.host
        if host is None or host not in self._map.primaries:
            return True
        if not self._others(host):
            return False
        at = self._probes.get(host)
        if at is not None and (not at.serves or self._behind(host) > _BEHIND_SECONDS):
            return True
        return not (self._is_up(host) or self.probe.heard)

    # -- what works ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether commands to all nodes are heard."""
        return self.control.connected

    @property
    def heard(self) -> bool:
        """Whether the node hears itself through more than half of the primaries, and commands as well; at first through all."""
        # Each handshake asks: no names are made for it.
        up = [self._is_up(host) for host in self._map.primaries]
        return self.probe.heard and 2 * sum(up) > len(up) and (self._begun or all(up))

    def servers(self) -> dict[str, bool]:
        """The primaries that own slots, and whether the node hears itself through each."""
        return {shown(host): self._is_up(host) for host in self._map.primaries}

    def _is_up(self, host: Host) -> bool:
        shard, probe = self.shards.of.get(host), self._probes.get(host)
        return bool(shard and probe and shard.connected and probe.heard)

    def is_down(self, key: str) -> bool:
        """Whether the primary that has a key is away, or hangs: from then on until ``Events.returned`` is told."""
        try:
            host = self._map.known.owner(key)
        except Unavailable:
            return True
        return host in self._hanging or self._is_lost(host)

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
        return self._run_map, self._run_control, self._watch, self.probe.run

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
