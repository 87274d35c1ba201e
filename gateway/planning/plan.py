"""How many machines and primaries carry a load, how busy they are, and what a deploy costs.

Arithmetic only: the figures are in ``costs.py``. ``limits.py`` says what would come to its end first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gateway.planning import costs
from gateway.planning.load import DRAIN_SECONDS, Load

_MIB_PER_GIB: Final = 1024
_KIB_PER_GIB: Final = 1024 * 1024
_MOST_PRIMARIES: Final = costs.CLUSTER_SERVERS // (1 + costs.REPLICAS)
_PRIMARIES: Final = (1, *range(costs.LEAST_OF_A_CLUSTER, _MOST_PRIMARIES))


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines with gateways. All figures are those while ``away`` of them are drained, or have failed.

    Attributes:
        machines: in all.
        processes: in all, one for each core.
        away: machines that are missing at the same time.
        connections_a_process: of those that are left.
        busy_cores: of all processes together.
        busy: of a process's core, from 0 to 1.
        memory_gib: of a machine.
    """

    machines: int
    processes: int
    away: int
    connections_a_process: float
    busy_cores: float
    busy: float
    memory_gib: float

    @property
    def serving(self) -> int:
        """Processes that are left while machines are away."""
        return self.processes * (self.machines - self.away) // self.machines


@dataclass(frozen=True, slots=True)
class RedisServers:
    """The primaries, a cluster if there are several; each has a replica as large.

    Attributes:
        primaries: as many as asked for, or as are needed.
        busy_cores: of all primaries together.
        busy: of one primary's core, from 0 to 1.
        memory_gib: of one primary.
        clients: connections of gateways to one primary, at most.
    """

    primaries: int
    busy_cores: float
    busy: float
    memory_gib: float
    clients: int


@dataclass(frozen=True, slots=True)
class Channel:
    """Messages a second that one channel can carry, if nothing else happens there.

    Attributes:
        redis: by its primary, where messages are published in batches or at the same time.
        gateways: by a process that has subscribers; without any it is infinite.
    """

    redis: float
    gateways: float

    @property
    def most(self) -> float:
        """What both can carry."""
        return min(self.redis, self.gateways)


@dataclass(frozen=True, slots=True)
class Network:
    """Mbit/s: of all clients together, of a machine with gateways, of a primary, and what a primary sends on a cluster's bus."""

    clients_out: float
    clients_in: float
    machine_out: float
    primary_in: float
    primary_out: float
    cluster_bus: float


@dataclass(frozen=True, slots=True)
class Deploy:
    """All machines are drained and started again within ``seconds``, as many at a time as may be away.

    Attributes:
        reconnects: of all clients; some meet a machine that is drained later.
        reconnects_a_second: on average.
        node_cores: busy with them.
        redis_cores: likewise.
        clients_in: Mbit/s of handshakes.
        shortest_seconds: in which nodes and Redis can carry it beside their other work; infinite where they have no room.
        everybody_seconds: until all are back who have lost their connections at the same moment.
    """

    seconds: float
    reconnects: float
    reconnects_a_second: float
    node_cores: float
    redis_cores: float
    clients_in: float
    shortest_seconds: float
    everybody_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What carries a load."""

    load: Load
    nodes: Nodes
    redis: RedisServers
    channel: Channel
    network: Network
    deploy: Deploy


def plan(load: Load) -> Plan:
    """What carries ``load``."""
    nodes = _nodes(load)
    redis = _redis(load, nodes.processes)
    return Plan(
        load,
        nodes,
        redis,
        _channel(load, nodes),
        _network(load, nodes, redis),
        _deploy(load, nodes, redis),
    )


def reach(subscribers: float, processes: int) -> float:
    """How many processes have at least one of a channel's subscribers, on average, if these are spread at random."""
    if processes == 1:
        return min(subscribers, 1.0)
    return -processes * math.expm1(subscribers * math.log1p(-1 / processes))


# -- nodes ------------------------------------------------------------------------------------


def node_cores(load: Load, processes: int) -> float:
    """Cores that gateways keep busy."""
    arriving = load.publishes * reach(load.subscribers, processes)
    # The first delivery of a message on a process is in its figure.
    further = max(0.0, load.deliveries - arriving)
    idle = load.connections * costs.CONNECTION_IDLE.value
    return (
        processes * costs.MESSAGE.cores(arriving / processes)
        + (further * costs.DELIVERY.value + idle) / 1e6
    )


def _nodes(load: Load) -> Nodes:
    serving = _serving_machines(load)
    machines = max(serving + 1, math.ceil(serving / (1 - DRAIN_SECONDS / load.window)))
    while machines - _away(load, machines) < serving:
        machines += 1
    away = _away(load, machines)
    processes = (machines - away) * load.cores
    busy = node_cores(load, processes)
    kib = load.connections / processes * costs.CONNECTION_MEMORY.value
    return Nodes(
        machines,
        machines * load.cores,
        away,
        load.connections / processes,
        busy,
        busy / processes,
        load.cores * (costs.PROCESS_MEMORY.value / _MIB_PER_GIB + kib / _KIB_PER_GIB),
    )


def _serving_machines(load: Load) -> int:
    """The fewest machines that carry the load."""

    def enough(machines: int) -> bool:
        processes = machines * load.cores
        return (
            load.connections <= processes * costs.PROCESS_CONNECTIONS
            and node_cores(load, processes) <= processes * costs.BUSY
        )

    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _away(load: Load, machines: int) -> int:
    """Machines that are drained at the same time, so that all are within the window; or the one that has failed."""
    return max(1, math.ceil(machines * DRAIN_SECONDS / load.window))


# -- Redis ------------------------------------------------------------------------------------


def redis_cores(load: Load, processes: int, primaries: int) -> float:
    """Cores that the primaries keep busy."""
    followers = load.publishes * max(0.0, reach(load.subscribers, processes) - 1)
    # The position of a message's first subscriber is in the figure of the publish.
    positions = min(
        max(0.0, load.deliveries - load.publishes), load.connections / costs.CONFIRM_SECONDS
    )
    others = (
        (followers + load.commands * processes) * costs.REDIS_FOLLOWER.value
        + positions * costs.REDIS_POSITION.value
        + load.publishes * costs.REPLICAS * costs.REDIS_REPLICA.value
        + load.connections * costs.REDIS_CONNECTION_IDLE.value
    )
    # Each process asks each primary whether it hears itself.
    calls = load.publishes / primaries + processes * costs.REDIS_PROCESS_CALLS.value
    publish = costs.REDIS_PUBLISH if primaries == 1 else costs.REDIS_CLUSTER_PUBLISH
    return primaries * publish.cores(calls) + others / 1e6


def _redis(load: Load, processes: int) -> RedisServers:
    entry = costs.REDIS_ENTRY_BYTES.value + load.message_bytes
    channel = costs.REDIS_CHANNEL_MEMORY.value + load.kept_messages * entry / 1024
    kib = load.connections * costs.REDIS_CONNECTION_MEMORY.value + load.logs * channel
    gib = kib / _KIB_PER_GIB

    def enough(primaries: int) -> bool:
        busy = redis_cores(load, processes, primaries)
        return busy <= primaries * costs.BUSY and gib <= primaries * costs.PRIMARY_GIB

    wanted = load.primaries or next(
        (count for count in _PRIMARIES if enough(count)), _MOST_PRIMARIES
    )
    busy = redis_cores(load, processes, wanted)
    each = costs.CONNECTIONS_TO_REDIS if wanted == 1 else costs.CONNECTIONS_TO_A_PRIMARY
    return RedisServers(wanted, busy, busy / wanted, gib / wanted, processes * each)


def _channel(load: Load, nodes: Nodes) -> Channel:
    followers = max(0.0, reach(load.subscribers, nodes.processes) - 1)
    message = (
        costs.REDIS_PUBLISH.high.value
        + costs.REPLICAS * costs.REDIS_REPLICA.value
        + followers * costs.REDIS_FOLLOWER.value
    )
    positions = max(0.0, load.subscribers - 1) * costs.REDIS_POSITION.value
    room = costs.BUSY * 1e6
    # Of few messages each is confirmed, of many what has come in an interval.
    few = room / (message + positions)
    many = (room - positions / costs.STREAM_CONFIRM_SECONDS) / message
    return Channel(max(few, many), _on_a_process(load, nodes))


def _on_a_process(load: Load, nodes: Nodes) -> float:
    """Messages a second of one channel that a process with subscribers can carry."""
    if not load.subscribers:
        return math.inf
    members = load.subscribers / reach(load.subscribers, nodes.serving)
    each = costs.MESSAGE.high.value + max(0.0, members - 1) * costs.DELIVERY.value
    return costs.BUSY * 1e6 / each


# -- networks ---------------------------------------------------------------------------------


def _network(load: Load, nodes: Nodes, redis: RedisServers) -> Network:
    around = costs.TLS_BYTES.value + costs.SEGMENT_BYTES.value
    ping = costs.PING_BYTES.value + around
    idle = load.connections / costs.PING_SECONDS * ping
    confirmations = min(load.deliveries, load.connections / costs.CONFIRM_SECONDS)
    delivery = load.message_bytes + costs.ENVELOPE_BYTES.value + around
    out = load.deliveries * delivery + idle
    back = load.deliveries * costs.SEGMENT_BYTES.value + confirmations * ping + idle
    publish = load.message_bytes + costs.REDIS_PUBLISH_BYTES.value
    feed = load.message_bytes + costs.REDIS_FEED_BYTES.value
    followers = reach(load.subscribers, nodes.processes)
    return Network(
        _megabits(out),
        _megabits(back),
        _megabits(out) / (nodes.machines - nodes.away),
        _megabits(load.publishes * publish / redis.primaries),
        _megabits(load.publishes * followers * feed / redis.primaries),
        _megabits(_bus_bytes(load, redis.primaries)),
    )


def _bus_bytes(load: Load, primaries: int) -> float:
    """What a primary of a cluster sends to the other servers in a second.

    Whether it lives and whom it knows, commands to all, and live messages to its replicas.
    """
    if primaries == 1:
        return 0.0
    servers = primaries * (1 + costs.REPLICAS)
    packet = costs.BUS_PACKET_BYTES + costs.BUS_GOSSIP_BYTES * max(3, servers // 10)
    pings = max(1.0, servers / (costs.CLUSTER_TIMEOUT_SECONDS / 2))
    message = costs.BUS_PACKET_BYTES + load.message_bytes + costs.REDIS_FEED_BYTES.value
    live = load.publishes / primaries * costs.REPLICAS * message
    commands = load.commands * (servers - 1) * costs.BUS_PACKET_BYTES
    return 2 * pings * packet + live + commands


def _megabits(bytes_: float) -> float:
    return bytes_ * 8 / 1e6


# -- a deploy ---------------------------------------------------------------------------------


def _deploy(load: Load, nodes: Nodes, redis: RedisServers) -> Deploy:
    reconnects = load.connections * _moves(nodes)
    rate = reconnects / load.window
    node, server = costs.RECONNECT.value / 1e6, costs.REDIS_RECONNECT.value / 1e6
    # So many reconnects a second are room for, beside all else.
    bears = min(
        nodes.serving * (costs.FULL - nodes.busy) / node,
        redis.primaries * (costs.FULL - redis.busy) / server,
    )
    return Deploy(
        load.window,
        reconnects,
        rate,
        rate * node,
        rate * server,
        _megabits(rate * costs.HANDSHAKE_BYTES.value),
        reconnects / bears if bears > 0 else math.inf,
        load.connections / bears if bears > 0 else math.inf,
    )


def _moves(nodes: Nodes) -> float:
    """How often a client reconnects on average, if each time it is any of the machines that serve.

    Of ``n`` groups of machines one is drained after the other, and what it held goes to the others in equal parts:
    those that are still to come hold more each time, by a factor of n/(n-1).
    """
    groups = math.ceil(nodes.machines / nodes.away)
    if groups == 1:
        return 1.0
    return (groups - 1) / groups * ((groups / (groups - 1)) ** groups - 1)
