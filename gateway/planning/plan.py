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
    """The primaries; each has a replica as large.

    Attributes:
        primaries: as many as asked for, or as are needed.
        busy_cores: of all primaries together.
        busy: of one primary's core, from 0 to 1.
        memory_gib: of one primary.
        clients: connections of gateways to one primary.
    """

    primaries: int
    busy_cores: float
    busy: float
    memory_gib: float
    clients: int


@dataclass(frozen=True, slots=True)
class Network:
    """Mbit/s: of all clients together, of a machine with gateways, of a primary, and of the bus of each server of a cluster."""

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
    network: Network
    deploy: Deploy


def plan(load: Load) -> Plan:
    """What carries ``load``."""
    nodes = _nodes(load)
    redis = _redis(load, nodes.processes)
    return Plan(load, nodes, redis, _network(load, nodes, redis), _deploy(load, nodes, redis))


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
        + load.connections * costs.REDIS_CONNECTION_IDLE.value
    )
    # Each process asks each primary whether it hears itself.
    calls = load.publishes / primaries + processes * costs.REDIS_PROCESS_CALLS.value
    return primaries * costs.REDIS_PUBLISH.cores(calls) + others / 1e6


def _redis(load: Load, processes: int) -> RedisServers:
    entry = costs.REDIS_ENTRY_BYTES.value + load.message_bytes
    channel = costs.REDIS_CHANNEL_MEMORY.value + load.kept_messages * entry / 1024
    kib = load.connections * costs.REDIS_CONNECTION_MEMORY.value + load.logs * channel
    gib = kib / _KIB_PER_GIB

    def enough(primaries: int) -> bool:
        busy = redis_cores(load, processes, primaries)
        return busy <= primaries * costs.BUSY and gib <= primaries * costs.PRIMARY_GIB

    wanted = load.primaries or next(
        (count for count in range(1, _MOST_PRIMARIES) if enough(count)), _MOST_PRIMARIES
    )
    busy = redis_cores(load, processes, wanted)
    clients = processes * costs.CONNECTIONS_TO_REDIS
    return RedisServers(wanted, busy, busy / wanted, gib / wanted, clients)


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
        _megabits(_bus_bytes(redis.primaries)),
    )


def _bus_bytes(primaries: int) -> float:
    """What a server of a cluster sends to the others in a second, so that each knows which ones live."""
    if primaries == 1:
        return 0.0
    servers = primaries * (1 + costs.REPLICAS)
    packet = costs.BUS_PACKET_BYTES + costs.BUS_GOSSIP_BYTES * max(3, servers // 10)
    pings = max(1.0, servers / (costs.CLUSTER_TIMEOUT_SECONDS / 2))
    return 2 * pings * packet


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
