"""The first group: this node's side of Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.assembly.shared import CLOCK, Shared
from gateway.backplane.event_writer import EventWriter
from gateway.backplane.health import NodeEntry, NodeLease
from gateway.backplane.hearing import Events, Parts, hearing
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.places import PlaceEvents, Places
from gateway.backplane.presence import PresenceTable, PresenceWriter
from gateway.backplane.pubsub import ListeningTime, ModeratedReader
from gateway.backplane.read_turn import ReadTurn
from gateway.backplane.redis_connections import connections
from gateway.backplane.redis_time import RedisTime
from gateway.backplane.scheduled import Scheduler
from gateway.backplane.servers import Servers
from gateway.backplane.store import Announcing, Positions
from gateway.backplane.unconfirmed import UnconfirmedWatch
from gateway.credentials import make_topology
from publisher.contract.events import UNCONFIRMED
from publisher.contract.unconfirmed import Telling


@dataclass(frozen=True, slots=True)
class RedisEvents:
    """What the other groups are told.

    Args:
        heard: what happens to the connections that listen.
        returned: Redis has come back, or another server has taken over.
        places: what happens to the places of connections.
    """

    heard: Events
    returned: Callable[[], None]
    places: PlaceEvents


class RedisSide:
    """The connections to Redis, and what a node keeps there."""

    def __init__(self, shared: Shared, events: RedisEvents) -> None:
        settings, stats, tasks = shared.settings, shared.stats, shared.tasks
        namespaces = settings.all_namespaces
        topology = make_topology(settings)
        self._events = events
        self.keys = topology.keys(settings.redis_prefix)
        seconds, moved = settings.redis_timeout_seconds, self._primary_moved
        self.connections = connections(topology, stats, seconds, moved, tasks, random.random)
        self.pipeline, self.health_connection = self.connections.calls, self.connections.health
        self.listening, self.read_turn = ListeningTime(CLOCK), ReadTurn()
        reader = partial(
            ModeratedReader, moment=settings.coalesce_seconds, clock=CLOCK, turn=self.read_turn
        )
        probe = self.keys.probe(shared.node_id)
        parts = Parts(reader, self.listening, stats, tasks, random.random, probe)
        self.hearing = hearing(self.connections, parts, events.heard)
        self.subscriber, self.probe = self.hearing.control, self.hearing.probe
        self.servers = Servers(self.connections.server_of, self.hearing.is_down)
        self.positions = Positions(
            self.pipeline, self.keys, namespaces, random.random, self.servers
        )
        self.places = self._make_places(shared, events)
        self.presence = PresenceWriter(
            self.pipeline,
            PresenceTable(self.keys, shared.node_id, settings.node_lease_seconds, namespaces),
            random.random,
            stats,
            self.servers,
        )
        # In a cluster messages come over other connections, and another primary may bring the commands at once.
        self.patience_without_commands = 1.0 if topology.cluster else 0.0
        self.node_lease = NodeLease(
            self.health_connection,
            NodeEntry(self.keys, shared.node_id, settings.node_lease_seconds),
            partial(self.servers.of, self.keys.nodes),
            self._returned,
            CLOCK,
            random.random,
            of_several=topology.cluster is not None,
        )
        self.time = RedisTime(self.health_connection, stats.timings.redis_clock, CLOCK)
        self.scheduler = Scheduler(self.pipeline, self.keys, shared.node_id, stats, CLOCK)
        telling = Telling(self.keys, shared.node_id, settings.events_max_length)
        watch = UnconfirmedWatch(
            self.pipeline,
            telling,
            settings.unconfirmed_after_seconds,
            stats,
            CLOCK,
            time.time,
            self.servers,
        )
        self.unconfirmed_watch = watch if UNCONFIRMED in settings.events else None
        # What of all nodes one does at a time.
        self.leased = [
            each for each in (self.scheduler, self.unconfirmed_watch) if each is not None
        ]
        self.event_writer = EventWriter(
            self.pipeline,
            self.keys,
            shared.node_id,
            shared.event_log,
            settings.node_lease_seconds,
            settings.events_max_length,
            CLOCK,
            random.random,
        )
        longest = settings.jwt_max_lifetime_seconds
        self.announcing = Announcing(self.pipeline, self.keys, namespaces, longest, random.random)

    def _make_places(self, shared: Shared, events: RedisEvents) -> Places:
        settings = shared.settings
        table = PlaceTable(
            self.keys,
            shared.node_id,
            settings.max_connections_per_user,
            settings.connection_lease_seconds,
            settings.replacements,
        )
        return Places(
            self.pipeline,
            self.health_connection,
            table,
            events.places,
            shared.tasks,
            random.random,
            self.servers,
        )

    def loops(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What runs as long as the node does."""
        return [
            *self.connections.loops(),
            *self.hearing.loops(),
            self.node_lease.run,
            self.places.run_renewal,
            self.places.releases.run,
            self.positions.run,
            self.announcing.run,
            *(each.run for each in self.leased),
            *([self.presence.run] if self.presence.present.noted else []),
            self.time.run,
            self.event_writer.run,
        ]

    def _primary_moved(self) -> None:
        self.subscriber.move()
        self.node_lease.recheck()

    def _returned(self) -> None:
        self.places.recount()
        self.presence.renew()
        self.event_writer.recheck()
        self.announcing.at_once()
        self._events.returned()
