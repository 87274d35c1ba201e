"""What everything costs: the figures that plans are made of, and where each was measured.

Figures are CPU time in µs on one core of the machine in ``docs/performance.md``, memory in KiB, and bytes on a
network. A faster machine divides the first kind. ``where`` names the row or the section of that page.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Cost(NamedTuple):
    """A measured figure: ``value`` in ``unit``, for ``what``, measured in ``where``."""

    value: float
    unit: str
    what: str
    where: str


class Work(NamedTuple):
    """CPU of messages, at a low and at a high rate: waking up costs most when little happens."""

    low_rate: float
    low: Cost
    high_rate: float
    high: Cost

    def cores(self, rate: float) -> float:
        """Cores that ``rate`` messages a second keep busy: a line through the two figures, and from zero to the first."""
        low, high = self.low_rate * self.low.value, self.high_rate * self.high.value
        if rate <= self.low_rate:
            return rate * self.low.value / 1e6
        slope = (high - low) / (self.high_rate - self.low_rate)
        return (low + slope * (rate - self.low_rate)) / 1e6


_TABLE: Final = "item {}"
_SCALE: Final = "many connections, below"
_LOGS: Final = "many logs, below"
_FORM: Final = "nothing: it is their form"

# -- a gateway process ------------------------------------------------------------------------

PROCESS_MEMORY: Final = Cost(61, "MiB", "a process without connections", _TABLE.format(4))
CONNECTION_MEMORY: Final = Cost(
    8.7,
    "KiB",
    "a connection with its user and a channel of its own, which has had messages",
    _SCALE,
)
CONNECTION_IDLE: Final = Cost(
    1.7, "µs a second", "a connection to which nothing happens", _TABLE.format(8)
)
RECONNECT: Final = Cost(
    275, "µs", "a client that comes back: token, place, subscribe, three messages", _TABLE.format(5)
)
DELIVERY: Final = Cost(
    9.3, "µs", "a message to a further subscriber on the same process", _TABLE.format(1)
)
MESSAGE: Final = Work(
    2_000,
    Cost(91, "µs", "a message to one subscriber, at 2,000 a second", _TABLE.format(3)),
    40_000,
    Cost(24, "µs", "the same, at 40,000 a second", _TABLE.format(3)),
)

# -- Redis ------------------------------------------------------------------------------------

REDIS_PUBLISH: Final = Work(
    2_000,
    Cost(99, "µs", "a durable publish in Redis, at 2,000 a second", _TABLE.format(3)),
    40_000,
    Cost(17.5, "µs", "the same, at 40,000 a second", _TABLE.format(3)),
)
REDIS_CLUSTER_PUBLISH: Final = Work(
    700,
    Cost(
        140, "µs", "a durable publish on a primary of a cluster, at 700 a second", _TABLE.format(12)
    ),
    13_000,
    Cost(21.5, "µs", "the same, at 13,000 a second", _TABLE.format(12)),
)
REDIS_REPLICA: Final = Cost(
    7.5, "µs", "a publish in Redis for each replica of its primary", _TABLE.format(12)
)
REDIS_FOLLOWER: Final = Cost(
    2.2, "µs", "a message in Redis to a further process that follows the channel", _TABLE.format(6)
)
REDIS_POSITION: Final = Cost(
    1.2, "µs", "a position in Redis that a user confirms, once a second and channel at most", _SCALE
)
REDIS_RECONNECT: Final = Cost(55, "µs", "a client that comes back, in Redis", _TABLE.format(5))
REDIS_CONNECTION_IDLE: Final = Cost(0.2, "µs a second", "a connection's place in Redis", _SCALE)
REDIS_PROCESS_CALLS: Final = Cost(
    2.6, "calls a second", "a gateway process's lease and probes, each as dear as a publish", _SCALE
)
REDIS_CONNECTION_MEMORY: Final = Cost(
    0.56, "KiB", "a connection in Redis: its place, and that a process follows its channel", _SCALE
)
REDIS_CHANNEL_MEMORY: Final = Cost(
    0.92, "KiB", "a channel that is kept, without its messages", _LOGS
)
REDIS_ENTRY_BYTES: Final = Cost(93, "bytes", "a message in a log, beside its own bytes", _LOGS)

# -- networks ---------------------------------------------------------------------------------

SEGMENT_BYTES: Final = Cost(
    66,
    "bytes",
    "a TCP segment, and the acknowledgement of one (Ethernet, IPv4, time stamps)",
    _FORM,
)
TLS_BYTES: Final = Cost(22, "bytes", "a record of TLS 1.3", _FORM)
ENVELOPE_BYTES: Final = Cost(100, "bytes", "what stands around a message's data", _TABLE.format(7))
HANDSHAKE_BYTES: Final = Cost(
    6_000, "bytes", "a handshake with TLS and a token, each way at most", _FORM
)
PING_BYTES: Final = Cost(12, "bytes", "a ping, or its pong", _FORM)
REDIS_PUBLISH_BYTES: Final = Cost(
    700, "bytes", "a publish on its way into Redis and its position, beside the message", _SCALE
)
REDIS_FEED_BYTES: Final = Cost(
    150, "bytes", "a message on its way to a process, beside its own bytes", _SCALE
)

MEASURED: Final = (
    *(PROCESS_MEMORY, CONNECTION_MEMORY, CONNECTION_IDLE, MESSAGE.low, MESSAGE.high, DELIVERY),
    *(RECONNECT, REDIS_PUBLISH.low, REDIS_PUBLISH.high, REDIS_CLUSTER_PUBLISH.low),
    *(REDIS_CLUSTER_PUBLISH.high, REDIS_REPLICA, REDIS_FOLLOWER, REDIS_POSITION),
    *(REDIS_RECONNECT, REDIS_CONNECTION_IDLE, REDIS_PROCESS_CALLS, REDIS_CONNECTION_MEMORY),
    *(REDIS_CHANNEL_MEMORY, REDIS_ENTRY_BYTES, ENVELOPE_BYTES, REDIS_PUBLISH_BYTES),
    *(REDIS_FEED_BYTES, SEGMENT_BYTES, TLS_BYTES, PING_BYTES, HANDSHAKE_BYTES),
)
"""All of them, in the order of the table in ``docs/performance.md``."""

# -- what a plan allows -----------------------------------------------------------------------

BUSY: Final = 0.6
"""Of a core: a process, or a primary, is given no more than this by what happens all the time."""
FULL: Final = 0.9
"""Of a core: no more while clients come back."""
PROCESS_CONNECTIONS: Final = 20_000
"""The default of ``GATEWAY_MAX_CONNECTIONS``."""
PRIMARY_GIB: Final = 25
"""Of memory: a larger one takes minutes to load its data or to make a replica."""
PRIMARY_CLIENTS: Final = 10_000
"""The default of ``maxclients`` in Redis."""
CONNECTIONS_TO_REDIS: Final = 3
"""Of each process: for its calls, for live messages, and to see whether Redis is well."""
CONNECTIONS_TO_A_PRIMARY: Final = 5
"""The same in a cluster: one more asks for the map, and on one of the primaries one more hears commands to all."""
PING_SECONDS: Final = 30
"""The default of ``GATEWAY_PING_INTERVAL_SECONDS``."""
CONFIRM_SECONDS: Final = 1
"""The default of ``GATEWAY_CONFIRM_INTERVAL_SECONDS``."""
STREAM_CONFIRM_SECONDS: Final = 3
"""Where a channel is confirmed regularly."""
REPLICAS: Final = 1
"""Of each primary."""
LEAST_OF_A_CLUSTER: Final = 3
"""Primaries: fewer cannot agree that one of them has failed."""
CLUSTER_SERVERS: Final = 1_000
"""Primaries and replicas up to which Redis recommends a cluster (its specification, "Main properties")."""
CLUSTER_TIMEOUT_SECONDS: Final = 15
"""The default of ``cluster-node-timeout``: within half of it each server asks every other one whether it lives."""
BUS_PACKET_BYTES: Final = 2_256
"""What each packet of the cluster bus begins with. Valkey 8 and later put 16 bytes before a message instead."""
BUS_GOSSIP_BYTES: Final = 104
"""What a packet says of each server that it mentions (a tenth of them, three at least)."""
