"""The fourth group, from clients to the node: handshakes, requests, and what becomes due with time."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from gateway.api.exchange import ApiExchange
from gateway.assembly.access import Access
from gateway.assembly.delivery import Delivery
from gateway.assembly.redis_side import RedisSide
from gateway.assembly.shared import CLOCK, Shared
from gateway.backplane.stream_calls import StreamCalls
from gateway.core import budget
from gateway.core.addresses import TrustedProxies
from gateway.core.budget import Allowance
from gateway.core.capacity import capacity
from gateway.core.origins import AllowedOrigins, of_strangers
from gateway.core.timing import EXPIRY_STEP
from gateway.credentials import internal_tls_files, tls_files
from gateway.metrics import NodeCollector, exposition
from gateway.node.lifetimes import Lifetimes
from gateway.node.ports import Clocks
from gateway.node.requests import Requests
from gateway.node.stats import Stats
from gateway.node.streams import Streams
from gateway.node.sweep import Sweep
from gateway.node.tokens import Tokens, TokenTimes
from gateway.settings import Settings
from gateway.web import open_files
from gateway.web.admission import Admission, Room
from gateway.web.client_port import ClientPort, Surroundings
from gateway.web.console import CONSOLE
from gateway.web.failed_authentications import FailedAuthentications
from gateway.web.handshake import Handshakes, Limits
from gateway.web.handshake_queue import HandshakeQueue
from gateway.web.pages import HttpPages
from gateway.web.refused_connections import RefusedConnections
from gateway.web.requests_under_way import RequestsUnderWay
from gateway.web.server import DevelopmentPage, InternalPort, internal_app, public_app
from gateway.web.stream_answers import Answers, Cors
from gateway.web.stream_openings import StreamOpenings
from gateway.web.stream_polls import StreamPolls
from gateway.web.stream_posts import StreamPosts
from gateway.web.stream_routing import StreamRouting
from gateway.web.streams import StreamRequests
from gateway.web.tls import Files, ServerTls
from gateway.web.user_quota import UserQuota
from gateway.web.wasted_tls import WastedTls


@dataclass(frozen=True, slots=True)
class State:
    """How the node is, for those who ask.

    Args:
        checks: those behind ``/readyz``.
        ready: whether all of them hold.
        welcoming: whether a connection is let in.
        internal_port: once it is known.
    """

    checks: Callable[[], dict[str, bool]]
    ready: Callable[[], bool]
    welcoming: Callable[[], bool]
    internal_port: Callable[[], int | None]


class Entrance:
    """The clients' port, what the internal one serves at the least, and the sweep over all that waits for a moment."""

    def __init__(
        self, shared: Shared, redis: RedisSide, delivery: Delivery, access: Access, state: State
    ) -> None:
        settings, stats, hub = shared.settings, shared.stats, delivery.hub
        self.capacity = capacity(
            open_files.limit(), settings.max_connections, settings.max_unauthenticated
        )
        limit = self.capacity.connections
        verifier = access.verifier
        self.keys = verifier.keys
        times = TokenTimes(settings.jwt_leeway_seconds, settings.token_expiring_seconds)
        shown = access.recheck, access.revocations, shared.tasks
        tokens = Tokens(hub, verifier, *shown, times, CLOCK, time.time)
        servers = redis.hearing.servers
        collector = NodeCollector(hub, stats, state.ready, limit, servers, lambda: self.keys.age)
        self.internal_app = internal_app(state.checks, servers, exposition(collector))
        # Whoever watches something through the console goes away when they like, which the API's exchange hears.
        exchange = ApiExchange if settings.console else None
        self.internal_pages = HttpPages(self.internal_app, exchange)
        parts = hub, access.subscriptions, tokens, delivery.heartbeats, delivery.confirmation
        most_failures = settings.failed_authentications_per_minute
        failures = FailedAuthentications(most_failures, stats, CLOCK)
        self.refused = refused = RefusedConnections(
            stats, failures, WastedTls(most_failures, CLOCK), CLOCK
        )
        room = Room(limit, settings.max_connections_per_user)
        rate = settings.handshakes_per_second
        queue = HandshakeQueue(rate, state.welcoming, stats, CLOCK)
        requests = Requests(
            *parts,
            access.presence_requests.ask,
            Clocks(CLOCK, time.time),
            settings.max_message_bytes,
        )
        self.streams = Streams(
            hub,
            requests,
            delivery.confirmation,
            settings.all_namespaces,
            shared.node_id,
            settings.high_water_bytes,
            CLOCK,
            random.random,
        )
        self.stream_calls = StreamCalls(
            redis.pipeline,
            redis.keys,
            shared.node_id,
            shared.tasks,
            self.streams,
            redis.places.living,
        )
        self.sweep = _make_sweep(shared, redis, delivery, access, (tokens.tick, self.streams.tick))
        admission = Admission(
            redis.places, access.revocations, state.welcoming, room, queue, stats.timings
        )
        self.handshakes = Handshakes(
            admission,
            verifier,
            Lifetimes(*parts, delivery.patience),
            requests,
            refused,
            _limits(settings, delivery.heartbeats.longest_silence),
            CLOCK,
            time.time,
        )
        base = settings.base_path
        test_page = (
            DevelopmentPage(partial(_console, settings, state)) if settings.development else None
        )
        self.public_pages = HttpPages(public_app(base, state.ready, test_page))
        self.client_port = ClientPort(
            Surroundings(
                frozenset({base or "/", f"{base}/", f"{base}/ws"}),
                TrustedProxies(settings.trusted_proxies),
                settings.proxy_protocol,
                self.capacity,
                settings.unauthenticated_per_address,
            ),
            stats,
            refused,
            self.handshakes,
            self._make_stream_requests(
                shared, access, partial(RequestsUnderWay, admission, self.streams, room.per_user)
            ),
            self.public_pages,
        )
        self.tls = _make_tls("clients", tls_files(settings), stats)
        self.internal_port = InternalPort(self.internal_pages, refused)
        self.internal_tls = _make_tls("internal", internal_tls_files(settings), stats)

    def _make_stream_requests(
        self, shared: Shared, access: Access, under_way: Callable[..., RequestsUnderWay]
    ) -> StreamRequests:
        settings, stats, tasks = shared.settings, shared.stats, shared.tasks
        quota = UserQuota(settings.max_connections_per_user, "requests", CLOCK)
        routing = StreamRouting(self.streams, self.stream_calls, access.revocations, quota)
        answers = Answers(
            Cors(credentials=_lists_origins(settings)),
            settings.compression_threshold_bytes if settings.compression else math.inf,
        )
        clocks = Clocks(CLOCK, time.time)
        serving, most = self.handshakes.serving, settings.max_subscriptions

        def changed(by: int) -> None:
            stats.polls_under_way += by

        polls = under_way(changed)
        return StreamRequests(
            settings.base_path,
            self.handshakes,
            StreamOpenings(self.streams, serving, answers, clocks, polls, most),
            StreamPolls(self.handshakes, routing, polls, self.refused, tasks),
            StreamPosts(
                routing, answers, under_way(), self.refused, tasks, settings.max_message_bytes
            ),
            self.refused,
            routing,
        )


def _console(settings: Settings, state: State) -> str | None:
    """Where a developer's browser finds the console."""
    port, secure = state.internal_port(), settings.internal_tls_certificate is not None
    if not settings.console or port is None:
        return None
    return f"http{'s' if secure else ''}://localhost:{port}{CONSOLE}"


def _make_tls(port: str, files: Files | None, stats: Stats) -> ServerTls | None:
    return None if files is None else ServerTls(port, files, stats, time.time)


def _lists_origins(settings: Settings) -> bool:
    """Whether it is said which pages may connect."""
    return bool(settings.allowed_origins) and not of_strangers(settings.allowed_origins)


def _make_sweep(
    shared: Shared,
    redis: RedisSide,
    delivery: Delivery,
    access: Access,
    ticks: Iterable[Callable[[], None]],
) -> Sweep:
    confirm_interval = shared.settings.confirm_interval_seconds
    return Sweep(
        shared.stats,
        CLOCK,
        min(delivery.heartbeats.pause, confirm_interval / 4, EXPIRY_STEP),
        (
            redis.listening.tick,
            delivery.heartbeats.tick,
            delivery.patience.tick,
            partial(delivery.confirmation.tick, delivery.hub.ask_all),
            *ticks,
            access.recheck.tick,
            access.refusals.tick,
            *(() if delivery.tracing is None else (delivery.tracing.tick,)),
        ),
    )


def _limits(settings: Settings, longest_silence: float) -> Limits:
    pongs = budget.pongs(settings.max_subscriptions, settings.confirm_interval_seconds)
    rate, burst = settings.client_messages_per_second, settings.client_message_burst
    most = settings.max_connections_per_user
    of_user = pongs * most
    return Limits(
        settings.max_message_bytes,
        settings.high_water_bytes,
        Allowance(rate + pongs, max(burst, pongs * longest_silence)),
        Allowance(
            max(settings.user_messages_per_second or rate * most / 2, rate) + of_user,
            max(settings.user_message_burst or burst * most / 2, burst, of_user * longest_silence),
        ),
        settings.max_subscriptions,
        AllowedOrigins(settings.allowed_origins),
        settings.compression,
        settings.jwt_cookie,
    )
