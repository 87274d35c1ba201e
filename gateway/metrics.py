"""Prometheus metrics, collected when they are asked for: counting costs the hot path an addition."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.node.hub import Hub
from gateway.node.stats import Stats
from gateway.node.timings import BOUNDS, Histogram, Timings

_BUILD = {"version": version("realtime-gateway"), "python": platform.python_version()}

_COUNTERS = {
    "messages_received": "Messages that came from Redis",
    "messages_delivered": "Live messages written, once for each socket",
    "messages_replayed": "Messages written from the log after a subscribe",
    "messages_repaired": "Messages read from the log after a gap in what came live",
    "gaps": "Live messages before which others were missing",
    "messages_dropped": "Messages without a log that a client did not get: it was slow, or its access was being rechecked",
    "slow_consumers": "Times a client left live delivery because too much waited for it",
    "messages_invalid": "Payloads on live channels that were no messages",
    "messages_unknown": "Messages with an extension that this version cannot read; their channels stop here",
    "decryption_failures": "Encrypted messages that this node could not open; their channels stop here",
    "losses_reported": "Times that clients were told of lost messages that their users had not confirmed",
    "socket_writes": "Writes to sockets",
    "socket_bytes": "Bytes written to sockets, as frames; TLS comes on top",
    "client_messages": "Messages from clients",
    "requests_delayed": "Subscribes, and pages of what a client was sent before, that waited for its budget",
    "connections_opened": "Connections that were let in",
    "tokens_expiring": "Times that a client was told that its token ends soon",
    "addresses_blocked": "Times that an address was not heard for the rest of a minute after too many failed authentications",
    "audit_dropped": "Lines that the audit log has lost: too many waited, or they could not be written",
    "events_dropped": "Events that backends were not told: too many waited for Redis, or it has refused them",
    "scheduled_refused": "Times that a scheduled message could not be published at its moment, for good, which is tried again a minute later, or that Redis refused to tell which are due",
    "unconfirmed_refused": "Times that Redis has refused, for good, to have a channel looked at for unconfirmed messages, which is tried again a minute later, or to tell which are due",
    "presence_unwritten": "Times that Redis could not be told who is in channels; it is tried again",
    "presence_truncated": "Times that a client was told of less than all who are in a channel: there were more than max_members",
    "redis_reconnects": "Pub/sub connections that were made anew after they had been lost",
    "probes_unheard": "Times the pub/sub connection was silent and was made anew",
    "redis_data_losses": "Times Redis came back without its data, and so without its grants",
    "redis_errors": "Errors that Redis answered with, and connections for calls that failed",
}


@dataclass(frozen=True, slots=True, eq=False)
class NodeCollector(Collector):
    """Reads a node's counters and state."""

    hub: Hub
    stats: Stats
    ready: Callable[[], bool]
    max_connections: int
    redis_servers: Callable[[], Mapping[str, bool]]
    keys_age: Callable[[], float] = lambda: 0.0

    def collect(self) -> Iterable[Metric]:
        """All metrics of the node, named ``gateway_…``."""
        for name, text in _COUNTERS.items():
            yield _counter(name, text, getattr(self.stats, name))
        yield from _histograms(self.stats.timings)
        yield _build()
        yield _counter(
            "redis_round_trips",
            "Writes of commands to Redis, each of one command or more",
            self.stats.round_trips.writes,
        )
        yield _labelled(
            "compression_bytes",
            "Bytes of messages that were compressed, before and after; once for all sockets that share the result",
            "stage",
            {"before": self.stats.compression.before, "after": self.stats.compression.after},
        )
        yield _labelled(
            "connections_refused", "Handshakes refused", "reason", self.stats.connections_refused
        )
        yield _labelled(
            "connections_closed", "Connections ended", "code", self.stats.connections_closed
        )
        yield _labelled(
            "api_requests", "Answers of the HTTP API, by status", "status", self.stats.api_requests
        )
        yield _labelled("client_errors", "Errors told to clients", "code", self.stats.client_errors)
        yield _labelled(
            "floods", "Connections closed for a flood", "exhausted_by", self.stats.floods
        )
        yield _labelled(
            "jwks_refreshes",
            "Times an issuer was asked for its keys",
            "outcome",
            self.stats.jwks_refreshes,
        )
        yield _labelled(
            "revocations",
            "Connections that a backend has ended, or that gave way to a newer one of their user",
            "kind",
            self.stats.revocations,
        )
        yield _gauge(
            "jwks_age_seconds",
            "Time since an issuer's keys were had, or since the start where they never were, of the issuer for which that is longest",
            self.keys_age(),
        )
        connections = self.hub.connections.values()
        subscriptions = sum(len(connection.subscriptions) for connection in connections)
        yield _gauge("ready", "Whether the node takes connections", int(self.ready()))
        yield _gauge(
            "redis_primaries_down",
            "Redis servers through which the node does not hear itself",
            list(self.redis_servers().values()).count(False),
        )
        yield _servers(self.redis_servers())
        yield _gauge("connections", "Open connections", len(connections))
        yield _transports(connection.socket.encoding.transport for connection in connections)
        yield _gauge(
            "connections_behind",
            "Connections left out of live delivery until their clients have caught up",
            sum(connection.behind for connection in connections),
        )
        yield _gauge(
            "connections_unauthenticated",
            "Connections to the clients' port that have shown no valid token",
            self.stats.connections_unauthenticated,
        )
        yield _gauge(
            "polls_under_way",
            "Polls that wait for their answers on this node or have not taken them, whichever node the clients' places are on",
            self.stats.polls_under_way,
        )
        yield _gauge(
            "handshakes_waiting",
            "Handshakes with a valid token that wait for their turn",
            self.stats.handshakes_waiting,
        )
        yield _gauge("connections_limit", "Connections this node may hold", self.max_connections)
        yield _gauge("subscriptions", "Subscriptions of all connections", subscriptions)
        yield _gauge(
            "presence_users",
            "Users in channels whose presence is noted, once for each channel",
            self.stats.presence_users,
        )
        yield _gauge(
            "scheduled_messages",
            "Messages to be published later; of all nodes the one tells it that publishes them",
            self.stats.scheduled_messages,
        )
        yield _gauge(
            "scheduled_late_seconds",
            "For how long the oldest message has been due that is not published yet",
            self.stats.scheduled_late,
        )
        yield _gauge("channels", "Live channels listened to", len(self.hub.channels))
        yield _gauge(
            "event_loop_lag_seconds", "How late the last sweep came", self.stats.event_loop_lag
        )
        ends = GaugeMetricFamily(
            "gateway_tls_certificate_expires_seconds",
            "When the certificate of a port ends, in Unix seconds",
            labels=["port"],
        )
        for port, moment in self.stats.tls_certificates_end.items():
            ends.add_metric([port], moment)
        yield ends
        yield _labelled(
            "tls_reloads",
            "Times that the files of a certificate had changed",
            "outcome",
            self.stats.tls_reloads,
        )


def _histograms(timings: Timings) -> Iterable[Metric]:
    yield _histogram(
        "publish_to_write",
        "From the publish of a message until it was written to the last of its sockets here: of each turn the oldest "
        "message that came live or was repaired",
        {"": timings.publish_to_write},
    )
    yield _histogram(
        "publish_to_confirmation",
        "From the publish of a message until its user has confirmed it, of those published while the user was connected; "
        "of those that a client is asked about together, the oldest",
        {"": timings.publish_to_confirmation},
    )
    yield _histogram(
        "handshake",
        "Handshakes: token: until it was verified, keys fetched; turn: until there was one; place: until Redis had given it; "
        "start: until the client was greeted",
        timings.handshake,
        "phase",
    )
    yield _histogram(
        "subscribe",
        "Subscribes: access: until the client may hear the channel; log: until it has what it missed, and is live",
        timings.subscribe,
        "phase",
    )
    yield _histogram(
        "redis_round_trip",
        "Round trips to Redis, of a connection one at a time",
        {"": timings.round_trips.seconds},
    )


def _histogram(
    name: str, text: str, histograms: Mapping[str, Histogram], label: str = ""
) -> HistogramMetricFamily:
    """One of seconds, a series for each key of ``histograms``, or one without a ``label``."""
    family = HistogramMetricFamily(
        f"gateway_{name}_seconds", text, labels=[label] if label else None
    )
    for value, histogram in histograms.items():
        up_to = zip((*map(str, BOUNDS), "+Inf"), accumulate(histogram.counts), strict=True)
        family.add_metric([value] if label else [], list(up_to), histogram.total)
    return family


def _build() -> GaugeMetricFamily:
    family = GaugeMetricFamily("gateway_build_info", "What runs here; 1", labels=list(_BUILD))
    family.add_metric(list(_BUILD.values()), 1)
    return family


def _servers(servers: Mapping[str, bool]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "gateway_redis_primary_up",
        "Whether the node hears itself through a Redis server: one, or each primary of a cluster",
        labels=["server"],
    )
    for server, heard in servers.items():
        family.add_metric([server], int(heard))
    return family


def _transports(transports: Iterable[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "gateway_connections_by_transport",
        "Open connections, by how their clients are sent their messages",
        labels=["transport"],
    )
    for transport, count in ({"websocket": 0, "sse": 0, "poll": 0} | Counter(transports)).items():
        family.add_metric([transport], count)
    return family


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"gateway_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"gateway_{name}", text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def exposition(collector: Collector) -> Callable[[], bytes]:
    """A function that renders the node's and the process's metrics as text."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return lambda: generate_latest(registry)
