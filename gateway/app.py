"""Assembly and lifecycle of a node. The only place that knows all the parts."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.backplane.channel_feed import ChannelFeed
from gateway.backplane.health import NodeEntry, NodeLease
from gateway.backplane.hearing import Events, Parts, hearing
from gateway.backplane.place_table import PlaceTable
from gateway.backplane.places import Places
from gateway.backplane.pubsub import ListeningTime, ModeratedReader
from gateway.backplane.read_turn import ReadTurn
from gateway.backplane.redis_connections import connections
from gateway.backplane.servers import Servers
from gateway.backplane.store import Announcing, GrantReader, LogReader, Positions
from gateway.core import budget, closing
from gateway.core.addresses import TrustedProxies
from gateway.core.capacity import capacity
from gateway.core.origins import AllowedOrigins
from gateway.core.timing import EXPIRY_STEP
from gateway.credentials import make_topology, make_verifier
from gateway.metrics import NodeCollector, exposition
from gateway.node.catchup import Catchup
from gateway.node.confirmation import Confirmation
from gateway.node.control import Control
from gateway.node.drain import Drain
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Events as HubEvents
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.life_checks import LifeChecks
from gateway.node.lifetimes import Lifetimes
from gateway.node.pacing import Pacing
from gateway.node.ports import Verifier
from gateway.node.recheck import Recheck
from gateway.node.recovery import Pages
from gateway.node.refusals import Refusals
from gateway.node.requests import Requests
from gateway.node.stalls import Patience
from gateway.node.stats import Stats
from gateway.node.subscriptions import Subscriptions
from gateway.node.sweep import Sweep
from gateway.node.tasks import Tasks, keep_going, take_step
from gateway.node.tokens import Tokens
from gateway.settings import Settings
from gateway.web import open_files
from gateway.web.admission import Admission
from gateway.web.client_port import ClientPort, Surroundings
from gateway.web.handshake import Handshakes, Limits
from gateway.web.pages import HttpPages
from gateway.web.refused_connections import RefusedConnections
from gateway.web.server import Ports, internal_app, public_app, shown
from gateway.web.socket import CLOSE_TIMEOUT_SECONDS

log = logging.getLogger(__name__)

_FAREWELL_SECONDS: Final = CLOSE_TIMEOUT_SECONDS + 1.0
"""By then the last client has answered its close frame, or has been cut off."""

_READY_POLL_SECONDS: Final = 0.02

_CLOCK: Final = time.monotonic


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running node listens."""

    public: tuple[str, int]
    internal: tuple[str, int]


class Gateway:
    """A node: made of its parts here, started and stopped here.

    Args:
        settings: with a Redis URL and a key.

    Raises:
        gateway.web.keys.BadKey: the key or the algorithms cannot be used.
        publisher.errors.InvalidURL: the URL cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = False
        self._ports = Ports(shared=settings.workers > 1)
        self.node_id = f"{socket.gethostname().replace('/', '-')}-{secrets.token_hex(4)}"
        self.stats = Stats()
        self._tasks, self._read_turn = Tasks(), ReadTurn()
        self._namespaces = settings.all_namespaces
        self.capacity = capacity(
            open_files.limit(), settings.max_connections, settings.max_unauthenticated
        )
        self._refused_connections = RefusedConnections(self.stats, _CLOCK)

        self._make_backplane(settings)
        self._make_delivery(settings)
        self._make_access(settings)
        self._make_entrance(settings, make_verifier(settings))

    # -- the parts, each made of those before it ----------------------------------------------

    def _make_backplane(self, settings: Settings) -> None:
        """This node's side of Redis."""
        topology = make_topology(settings)
        self._keys = topology.keys(settings.redis_prefix)
        seconds, moved = settings.redis_timeout_seconds, self._primary_moved
        self._redis = connections(topology, self.stats, seconds, moved, self._tasks, random.random)
        self._pipeline, self._health_connection = self._redis.calls, self._redis.health
        self._listening = ListeningTime(_CLOCK)
        moment, turn = settings.coalesce_seconds, self._read_turn
        reader = partial(ModeratedReader, moment=moment, clock=_CLOCK, turn=turn)
        shared = self._listening, self.stats, self._tasks, random.random
        self._hearing = hearing(
            self._redis,
            Parts(reader, *shared, self._keys.probe(self.node_id)),
            Events(self._listens, self._restored, self._names_missed, self._server_returned),
        )
        self._subscriber, self._probe = self._hearing.control, self._hearing.probe
        self._servers = Servers(self._redis.server_of, self._hearing.is_down)
        self._positions = Positions(
            self._pipeline, self._keys, self._namespaces, random.random, self._servers
        )
        per_user, lease = settings.max_connections_per_user, settings.connection_lease_seconds
        table = PlaceTable(self._keys, self.node_id, per_user, lease)
        self._places = Places(
            self._pipeline,
            self._health_connection,
            table,
            lambda ids: self._life_checks.look(ids),  # noqa: PLW0108 - made below
            self._tasks,
            self._place_lost,
            random.random,
            self._servers,
        )
        self._node_lease = NodeLease(
            self._health_connection,
            NodeEntry(self._keys, self.node_id, settings.node_lease_seconds),
            partial(self._servers.of, self._keys.nodes),
            self._redis_returned,
            _CLOCK,
            random.random,
            of_several=topology.cluster is not None,
        )
        self._announcing = Announcing(self._pipeline, self._keys, self._namespaces, random.random)

    def _make_delivery(self, settings: Settings) -> None:
        """From Redis to the sockets: what is live, what is in the log, and what has arrived."""
        self._confirmation = Confirmation(
            self._positions, self._namespaces, _CLOCK, settings.confirm_interval_seconds
        )
        self.hub = Hub(
            self._read_turn.call_soon,
            self._confirmation,
            self.stats,
            HubEvents(
                gap=lambda channel: self._catchup.miss(channel),  # noqa: PLW0108 - made below
                behind=lambda connection: self._catchup.leave_out(connection),  # noqa: PLW0108 - made below
                congested=self._hearing.throttle,
                command=lambda payload: self._control.receive(payload),  # noqa: PLW0108 - made below
            ),
            settings.compression_threshold_bytes,
        )
        self._interests = Interests(
            ChannelFeed(self._hearing.channels, self._keys.live, self.hub.receive),
            self.hub.forget,
            settings.unsubscribe_linger_seconds,
        )
        interval, timeout = settings.ping_interval_seconds, settings.pong_timeout_seconds
        self._heartbeats = Heartbeats(self.hub, _CLOCK, random.random, interval, timeout)
        self._life_checks = LifeChecks(
            self.hub, self._heartbeats, self._tasks, _CLOCK, self._places.give_back
        )
        self._drain = Drain(
            self.hub,
            _CLOCK,
            settings.drain_delay_seconds,
            settings.drain_seconds,
            _FAREWELL_SECONDS,
        )
        self._patience = Patience(self.hub, settings.stall_seconds, _CLOCK)
        self._pacing = Pacing(_CLOCK, self.stats)
        history = LogReader(self._pipeline, self._keys, self._positions, self.stats)
        self._catchup = Catchup(
            self.hub,
            self._interests,
            Pages(history, self._confirmation, random.random),
            self._confirmation,
            self._patience,
            self._pacing,
            self._tasks,
            self._namespaces,
            lambda *failure: self._subscriptions.fail(*failure),  # noqa: PLW0108 - made below
            settings.max_subscriptions,
        )

    def _make_access(self, settings: Settings) -> None:
        """Who may hear a channel, from the request to the end."""
        grants = GrantReader(self._pipeline, self._keys, self.stats, self._servers)
        self._interests_in_grants = Interests(
            ChannelFeed(
                self._hearing.channels,
                self._keys.granted,
                lambda *told: self._refusals.hear(*told),  # noqa: PLW0108 - made below
            ),
            lambda _channel: None,
            settings.unsubscribe_linger_seconds,
        )
        self._refusals = Refusals(
            self.hub, self._interests_in_grants, grants, self._tasks, _CLOCK, random.random
        )
        self._recheck = Recheck(
            self.hub,
            self._catchup,
            grants,
            self._refusals,
            self._namespaces,
            _CLOCK,
            random.random,
        )
        self._subscriptions = Subscriptions(
            self.hub,
            self._catchup,
            self._recheck,
            self._refusals,
            self._pacing,
            settings.max_subscriptions,
        )
        self._control = Control(
            self._recheck, self._places.checks.hear, self._places.checks.checked
        )

    def _make_entrance(self, settings: Settings, verifier: Verifier) -> None:
        """From clients to the node: handshakes, requests, and what becomes due with time."""
        tokens = Tokens(self.hub, verifier, self._recheck, _CLOCK, time.time)
        parts = self.hub, self._subscriptions, tokens, self._heartbeats, self._confirmation
        requests = Requests(*parts, _CLOCK, time.time, settings.max_message_bytes)
        per_user = settings.max_connections_per_user
        subscriptions = settings.max_subscriptions
        pongs = budget.pongs(subscriptions, settings.confirm_interval_seconds)
        ask = partial(self._confirmation.tick, self.hub.send_all)
        self._sweep = Sweep(
            self.stats,
            _CLOCK,
            min(self._heartbeats.pause, settings.confirm_interval_seconds / 4, EXPIRY_STEP),
            (
                self._listening.tick,
                self._heartbeats.tick,
                self._patience.tick,
                ask,
                tokens.tick,
                self._recheck.tick,
                self._refusals.tick,
            ),
        )
        servers, limit = self._hearing.servers, self.capacity.connections
        collector = NodeCollector(self.hub, self.stats, self.ready, limit, servers)
        self._internal_pages = HttpPages(
            internal_app(self.readiness, servers, exposition(collector))
        )
        self._handshakes = Handshakes(
            Admission(self._places, self._welcoming, self.capacity.connections, per_user),
            verifier,
            Lifetimes(*parts, self._patience),
            requests,
            self._refused_connections,
            Limits(
                settings.max_message_bytes,
                settings.high_water_bytes,
                settings.client_messages_per_second + pongs,
                max(settings.client_message_burst, pongs * self._heartbeats.longest_silence),
                subscriptions,
                AllowedOrigins(settings.allowed_origins),
                settings.compression,
            ),
            _CLOCK,
        )
        base = settings.base_path
        self._public_pages = HttpPages(public_app(base, self.ready, test_page=settings.development))
        self._client_port = ClientPort(
            Surroundings(
                frozenset({base or "/", f"{base}/", f"{base}/ws"}),
                TrustedProxies(settings.trusted_proxies),
                settings.proxy_protocol,
                self.capacity,
                settings.unauthenticated_per_address,
            ),
            self.stats,
            self._refused_connections,
            self._handshakes,
            self._public_pages,
        )

    # -- state --------------------------------------------------------------------------------

    def readiness(self) -> dict[str, bool]:
        """The checks behind ``/readyz``."""
        return {
            "pubsub": self._hearing.connected,
            "probe": self._hearing.heard,
            "redis": self._node_lease.held,
            # Before its own places are counted again a node would let too many in.
            "places": self._places.settled,
            "serving": not self._drain.leaving,
        }

    def ready(self) -> bool:
        """Whether a balancer should send connections here."""
        return all(self.readiness().values())

    def _welcoming(self) -> bool:
        """Whether a connection is let in. A balancer takes a moment to notice that the node leaves."""
        checks = self.readiness() | {"serving": not self._drain.closed}
        return all(checks.values())

    async def until_ready(self) -> None:
        """Return once new connections are welcome."""
        while not self.ready():  # noqa: ASYNC110 - readiness is the state of several parts
            await asyncio.sleep(_READY_POLL_SECONDS)

    def _listens(self, listening: bool) -> None:
        self._recheck.listens(listening)

    def _restored(self) -> None:
        self._node_lease.recheck()
        self._tasks.spawn(self._catchup.check_all(), "check all channels")
        self._refusals.ask_all()

    def _names_missed(self, names: list[str]) -> None:
        channels = set(map(self._keys.heard, names))
        self._recheck.unheard(channels)
        self._tasks.spawn(self._catchup.check_named(channels), "check channels")
        self._refusals.ask_all()

    def _server_returned(self) -> None:
        self._node_lease.recheck()
        self._recheck.ask_again()

    def _primary_moved(self) -> None:
        self._subscriber.move()
        self._node_lease.recheck()

    def _redis_returned(self) -> None:
        self._places.restore()
        self._announcing.at_once()
        self._recheck.data_may_be_lost()

    def _place_lost(self, connection_id: str) -> None:
        connection = self.hub.connections.get(connection_id)
        if connection is not None:
            log.warning("place_lost connection=%s user=%r", connection_id, connection.user)
            self.hub.close(connection, closing.CONNECTION_LIMIT)

    # -- lifecycle ----------------------------------------------------------------------------

    async def start(self) -> Addresses:
        """Listen. Redis may come later: until it does, the node is not ready.

        Raises:
            CannotListen: a port is in use, or not ours to take.
        """
        settings = self._settings
        await self._public_pages.start()
        await self._internal_pages.start()
        addresses = Addresses(
            await self._ports.listen(
                self._client_port.accept,
                settings.host,
                settings.port,
                "port",
                last_file=self.capacity.last_file,
            ),
            await self._ports.listen(
                lambda _accepted: self._internal_pages.protocol(),
                settings.internal_host,
                settings.internal_port,
                "internal_port",
                last_file=self.capacity.files,
                may_choose=settings.may_choose_internal_port,
            ),
        )
        for work in (
            *self._redis.loops(),
            *self._hearing.loops(),
            self._node_lease.run,
            self._places.run_renewal,
            self._places.releases.run,
            self._positions.run,
            self._sweep.run,
            self._recheck.run,
            self._announcing.run,
        ):
            self._tasks.spawn(keep_going(work), work.__qualname__)
        for name in (self._keys.control, self._keys.answers(self.node_id)):
            self._subscriber.listen(name, self._control.receive)
        self._started = True
        public, internal = shown(addresses.public), shown(addresses.internal)
        log.info("node_started node=%s address=%s internal=%s", self.node_id, public, internal)
        return addresses

    async def stop(self) -> None:
        """Leave: take nobody in, close everybody with 1001, write what is known, give places back.

        Every step is taken, whatever became of those before it.
        """
        if self._started:
            await take_step("drain", self._drain.run(), None)
        await take_step("close the ports", self._ports.aclose())
        await take_step("close the clients' port", self._client_port.aclose(), None)
        for pages in (self._public_pages, self._internal_pages):
            await take_step("close the pages", pages.aclose(), None)
        if self._started:
            # At the same time: a Redis that hangs is waited for once.
            await asyncio.gather(
                take_step("write positions", self._positions.flush()),
                take_step("give places back", self._places.releases.release_all()),
            )
            await take_step("give up the node lease", self._node_lease.give_up())
        self._interests.close()
        self._interests_in_grants.close()
        await take_step("end the tasks", self._tasks.aclose())
        await self._redis.aclose()
        if self._started:
            self._started = False
            log.info("node_stopped node=%s", self.node_id)
