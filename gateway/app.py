"""Assembly and lifecycle of a node. The only place that knows all the parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway.assembly.access import Access
from gateway.assembly.api import HttpApi
from gateway.assembly.delivery import Delivery, DeliveryEvents
from gateway.assembly.entrance import Entrance, State
from gateway.assembly.operators import Operators
from gateway.assembly.redis_side import RedisEvents, RedisSide
from gateway.assembly.shared import CLOCK, Shared
from gateway.assembly.spans import exporter
from gateway.backplane.hearing import Events
from gateway.backplane.places import PlaceEvents
from gateway.core import closing
from gateway.node.events import EventLog
from gateway.node.stats import Stats
from gateway.node.streams import tag_of
from gateway.node.tasks import keep_going, take_step
from gateway.node.timings import Timings
from gateway.node.watching import Watching
from gateway.settings import Settings
from gateway.web.server import Ports, shown
from publisher.contract.control import DrainNode

log = logging.getLogger(__name__)

_READY_POLL_SECONDS: Final = 0.02

_PASSED_WAITS_SECONDS: Final = 10.0
"""So long clients wait in a socket that another process holds, for the node to be ready; then they are told that it is not."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running node listens."""

    public: tuple[str, int]
    internal: tuple[str, int]
    api: tuple[str, int] | None = None


class Gateway:
    """A node: made of its parts here, started and stopped here.

    Args:
        settings: with a Redis URL and a key.
        passed: a socket on which clients connect, if another process holds one for them; else the settings' port is taken.
        leave: called when an operator has told the node to end: whoever runs it then stops it.

    Raises:
        gateway.web.keys.BadKey: the key or the algorithms cannot be used.
        gateway.web.tls.BadCertificate: the settings of TLS do not go together.
        gateway.settings.UsageError: spans cannot be sent as the variables of OpenTelemetry say.
        publisher.errors.InvalidURL: the URL cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        passed: socket.socket | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._passed = passed
        self._leave = leave
        self._started = False
        self._ports = Ports(shared=settings.workers > 1)
        name = settings.node_name or socket.gethostname().replace("/", "-")
        self.node_id = f"{name}-{secrets.token_hex(4)}"
        stats = Stats(timings=Timings(CLOCK))
        watching = Watching(self.node_id, CLOCK, time.time, stats.timings.redis_clock)
        event_log = EventLog(settings.events, self.node_id, time.time, stats, watching)
        self._exporter = exporter(settings, self.node_id)
        shared = Shared(settings, self.node_id, event_log, stats, self._drain, self._exporter)
        self.stats, self._tasks = shared.stats, shared.tasks
        # Each is made of those before it. What they tell those behind them goes by way of the node.
        self.redis = RedisSide(
            shared,
            RedisEvents(
                Events(self._listens, self._restored, self._names_missed, self._server_returned),
                lambda: self.access.recheck.data_may_be_lost(),  # noqa: PLW0108 - made below
                PlaceEvents(
                    lambda ids: self.delivery.life_checks.look(ids),  # noqa: PLW0108 - made below
                    self._place_lost,
                    lambda command: self.access.revocations.carry_out(command),  # noqa: PLW0108 - made below
                ),
            ),
        )
        self.delivery = Delivery(
            shared,
            self.redis,
            DeliveryEvents(
                lambda payload: self.access.control.receive(payload),  # noqa: PLW0108 - made below
                lambda *failure: self.access.subscriptions.fail(*failure),  # noqa: PLW0108 - made below
                lambda subscription: self.access.presence_requests.ask_again(subscription),  # noqa: PLW0108 - made below
            ),
        )
        self.hub = self.delivery.hub
        self.access = Access(
            shared,
            self.redis,
            self.delivery,
            lambda command: self.entrance.stream_calls.hear(command),  # noqa: PLW0108 - made below
        )
        state = State(
            self.readiness, self.ready, self._welcoming, lambda: self._ports.number("internal_port")
        )
        self.entrance = Entrance(shared, self.redis, self.delivery, self.access, state)
        self.capacity = self.entrance.capacity
        self.operators = Operators(shared, self.redis, self.delivery, self.entrance, state)
        has_api = settings.console or settings.api_port is not None
        self.api = HttpApi(shared, self.access, self.entrance) if has_api else None

    # -- state --------------------------------------------------------------------------------

    def readiness(self) -> dict[str, bool]:
        """The checks behind ``/readyz``."""
        return {
            "pubsub": self.redis.hearing.connected,
            "probe": self.redis.hearing.heard,
            "redis": self.redis.node_lease.held,
            # Before its own places are counted again a node would let too many in.
            "places": self.redis.places.settled,
            # Once: an outage of who publishes them takes no node out of service that has them.
            "keys": self.entrance.keys.usable,
            # And before it knows what was revoked while it heard nothing it would serve whom it may not.
            "revocations": self.access.cut_off.settled,
            "serving": not self.delivery.drain.leaving,
        }

    def ready(self) -> bool:
        """Whether a balancer should send connections here."""
        return all(self.readiness().values())

    def _welcoming(self) -> bool:
        """Whether a connection is let in. A balancer takes a moment to notice that the node leaves."""
        checks = self.readiness()
        checks["serving"] = not self.delivery.drain.closed
        return all(checks.values())

    async def until_ready(self) -> None:
        """Return once new connections are welcome."""
        while not self.ready():  # noqa: ASYNC110 - readiness is the state of several parts
            await asyncio.sleep(_READY_POLL_SECONDS)

    def _listens(self, listening: bool) -> None:
        self.access.recheck.listens(listening)
        self.access.cut_off.listens(listening)

    def _restored(self) -> None:
        self.redis.node_lease.recheck()
        self.access.refusals.ask_all()

    def _names_missed(self, names: list[str]) -> None:
        channels = set(map(self.redis.keys.heard, names))
        self.access.recheck.unheard(channels)
        self._tasks.spawn(self.delivery.catchup.check_named(channels), "check channels")
        self.access.refusals.ask_all()

    def _server_returned(self) -> None:
        self.redis.node_lease.recheck()
        self.access.recheck.ask_again()
        self.access.revocations.recheck()

    def _drain(self, command: DrainNode) -> None:
        if command.node == self.node_id:
            log.info("drain_commanded node=%s actor=%r", command.node, command.actor)
            self._leave()

    def _place_lost(self, connection_id: str) -> None:
        connection = self.hub.connections.get(connection_id)
        if connection is not None:
            log.warning("place_lost connection=%s user=%r", connection_id, connection.user)
            gives_way = self._settings.replacements is not None
            self.hub.close(connection, closing.REPLACED if gives_way else closing.CONNECTION_LIMIT)

    # -- lifecycle ----------------------------------------------------------------------------

    async def start(self) -> Addresses:
        """Listen. Redis may come later: until it does, the node is not ready.

        Raises:
            BadCertificate: a certificate or its key cannot be used.
            BadApiKeys: there are no keys for the HTTP API, or they cannot be used.
            CannotListen: a port is in use, or not ours to take.
        """
        settings, entrance = self._settings, self.entrance
        encrypting = [each for each in (entrance.tls, entrance.internal_tls) if each is not None]
        for tls in encrypting:
            await tls.start()
        await entrance.public_pages.start()
        if self.api is not None:
            await self.api.start()
        await entrance.internal_pages.start()
        addresses = Addresses(
            await self._ports.listen(
                entrance.client_port,
                settings.host,
                settings.port,
                "port",
                last_file=self.capacity.last_file,
                tls=entrance.tls,
                tls_rate=settings.handshakes_per_second,
                passed=self._passed,
            ),
            await self._ports.listen(
                entrance.internal_port,
                settings.internal_host,
                settings.internal_port,
                "internal_port",
                last_file=self.capacity.files,
                tls=entrance.internal_tls,
                may_choose=settings.may_choose_internal_port,
            ),
        )
        if self.api is not None and settings.api_port is not None:
            addresses = replace(
                addresses, api=await self._listen_for_backends(self.api, settings.api_port)
            )
        for work in (
            *self.redis.loops(),
            self.access.recheck.run,
            self.access.revocations.run,
            self.entrance.sweep.run,
            *self.operators.loops(),
            *(self.api.loops() if self.api is not None else ()),
            *(tls.run for tls in encrypting),
            *(each.run for each in self.entrance.keys.remote),
        ):
            self._tasks.spawn(keep_going(work), work.__qualname__)
        if self._passed is not None:
            self._tasks.spawn(self._take_passed(), "take the passed socket")
        keys = self.redis.keys
        for name in (keys.control, keys.answers(self.node_id), keys.answers(tag_of(self.node_id))):
            self.redis.subscriber.listen(name, self.access.control.receive)
        self._started = True
        public, internal = shown(addresses.public), shown(addresses.internal)
        log.info(
            "node_started node=%s address=%s internal=%s api=%s",
            self.node_id,
            public,
            internal,
            None if addresses.api is None else shown(addresses.api),
        )
        return addresses

    async def _take_passed(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PASSED_WAITS_SECONDS):
                await self.until_ready()
        self._ports.start_passed()

    async def _listen_for_backends(self, api: HttpApi, port: int) -> tuple[str, int]:
        settings = self._settings
        return await self._ports.listen(
            api.port,
            settings.api_host,
            port,
            "api_port",
            last_file=self.capacity.last_file,
            tls=self.entrance.internal_tls,
        )

    async def stop(self) -> None:
        """Leave: take nobody in, close everybody with 1001, write what is known, give places back.

        Every step is taken, whatever became of those before it.
        """
        if self.api is not None:
            self.api.leave()
        if self._started:
            self._ports.leave_passed()
            await take_step("drain", self.delivery.drain.run(), None)
        await take_step("close the ports", self._ports.aclose())
        await take_step("close the clients' port", self.entrance.client_port.aclose(), None)
        if self.api is not None:
            await take_step("close the HTTP API", self.api.aclose(), None)
        for pages in (self.entrance.public_pages, self.entrance.internal_pages):
            await take_step("close the pages", pages.aclose(), None)
        if self._started:
            # At the same time: a Redis that hangs is waited for once.
            await asyncio.gather(
                take_step("write positions", self.redis.positions.flush()),
                take_step("note who has left", self.redis.presence.flush()),
                take_step("give places back", self.redis.places.releases.release_all()),
                take_step("write events", self.redis.event_writer.close()),
                *(take_step("hand over what is due", each.close()) for each in self.redis.leased),
            )
            await take_step("remove the report", self.operators.reports.remove())
            await take_step("give up the node lease", self.redis.node_lease.give_up())
        self.delivery.interests.close()
        self.delivery.interests_in_presence.close()
        self.access.interests_in_grants.close()
        if self._exporter is not None and self.delivery.tracing is not None:
            self.delivery.tracing.close()
            await take_step("send the last spans", self._exporter.aclose())
        await take_step("end the tasks", self._tasks.aclose())
        await self.redis.connections.aclose()
        if self._started:
            self._started = False
            log.info("node_stopped node=%s", self.node_id)
