"""What a node has counted and measured. Plain numbers, read when Prometheus scrapes (``gateway/metrics.py``)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gateway.core.frames import Compression
from gateway.node.timings import RoundTrips, Timings


@dataclass(slots=True)
class Stats:
    """Counters, which only ever rise, and a few gauges; their names are the metrics' names without prefix and suffix."""

    messages_received: int = 0
    messages_delivered: int = 0
    messages_replayed: int = 0
    messages_repaired: int = 0
    gaps: int = 0
    messages_dropped: int = 0
    slow_consumers: int = 0
    losses_reported: int = 0
    messages_invalid: int = 0
    messages_unknown: int = 0
    decryption_failures: int = 0
    socket_writes: int = 0
    socket_bytes: int = 0
    compression: Compression = field(default_factory=Compression)
    timings: Timings = field(default_factory=Timings)
    client_messages: int = 0
    connections_opened: int = 0
    tokens_expiring: int = 0
    connections_unauthenticated: int = 0
    polls_under_way: int = 0
    addresses_blocked: int = 0
    handshakes_waiting: int = 0
    connections_refused: Counter[str] = field(default_factory=Counter)
    jwks_refreshes: Counter[str] = field(default_factory=Counter)
    connections_closed: Counter[str] = field(default_factory=Counter)
    client_errors: Counter[str] = field(default_factory=Counter)
    floods: Counter[str] = field(default_factory=Counter)
    revocations: Counter[str] = field(default_factory=Counter)
    requests_delayed: int = 0
    api_requests: Counter[str] = field(default_factory=Counter)
    audit_dropped: int = 0
    events_dropped: int = 0
    scheduled_messages: int = 0
    scheduled_late: float = 0.0
    scheduled_refused: int = 0
    unconfirmed_refused: int = 0
    presence_users: int = 0
    presence_unwritten: int = 0
    presence_truncated: int = 0
    redis_reconnects: int = 0
    redis_errors: int = 0
    redis_data_losses: int = 0
    probes_unheard: int = 0
    event_loop_lag: float = 0.0
    tls_reloads: Counter[str] = field(default_factory=Counter)
    tls_certificates_end: dict[str, float] = field(default_factory=dict)

    @property
    def round_trips(self) -> RoundTrips:
        """What pipelines tell of their round trips."""
        return self.timings.round_trips
