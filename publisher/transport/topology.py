"""Which Redis a URL or a client means, for publishers and gateways: one server, the primary that Sentinel names, or a
cluster's primaries, each of which has a part of the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from publisher.contract.keys import Keys
from publisher.contract.redis_url import parse_cluster_url, parse_sentinel_url
from publisher.errors import InvalidData
from publisher.transport.blocking import Connections
from publisher.transport.blocking_cluster import BlockingCluster
from publisher.transport.cluster import Cluster
from publisher.transport.contact import Contact
from publisher.transport.loop_cluster import LoopCluster
from publisher.transport.loops import LoopConnections
from publisher.transport.primary import BlockingPrimary, LoopPrimary, OneServer
from publisher.transport.redis_py import (
    Client,
    ClusterClient,
    Connector,
    asyncio_client,
    blocking_client,
)
from publisher.transport.sentinel import Sentinels
from publisher.transport.valkey_py import is_a


@dataclass(frozen=True)
class Topology:
    """``servers`` makes connections to the only server or, where there are ``sentinels``, to one that they name.

    In a ``cluster`` there are several, and ``servers`` is still to be told the host and the port of one.
    """

    servers: Connector
    sentinels: Sentinels | None = None
    cluster: Cluster | None = None

    def keys(self, prefix: str) -> Keys:
        """The names that publishers and gateways use there."""
        return Keys(prefix, self.servers.database, sharded=self.cluster is not None)

    @property
    def address(self) -> str:
        """Where it is, as a person reads it; without any password."""
        if self.cluster is not None:
            return self.cluster.address
        if self.sentinels is None:
            return self.servers.address
        asked = ",".join(each.address for each in self.sentinels.sentinels)
        return f"{self.sentinels.name}@{asked}"

    def connections_for_threads(self, timeout: float) -> Connections | BlockingCluster:
        """What takes the steps of flows; ``timeout``: seconds to wait for a connection where there may be no more."""
        if self.cluster is not None:
            return BlockingCluster(self.cluster, timeout)
        primary = self.for_threads()
        return Connections(primary, timeout, Contact(lambda: primary.address))

    def connections_for_loop(self, timeout: float, keys: Keys) -> LoopConnections | LoopCluster:
        """The same for the running event loop; ``timeout``: seconds a round trip may take."""
        if self.cluster is not None:
            return LoopCluster(self.cluster, timeout, keys)
        return LoopConnections(self.for_loop, timeout)

    def for_threads(self) -> OneServer | BlockingPrimary:
        """The server that calls go to."""
        if self.sentinels is None:
            return OneServer(self.servers)
        return BlockingPrimary(self.sentinels)

    def for_loop(self, moved: Callable[[], None] = lambda: None) -> OneServer | LoopPrimary:
        """The same for the running event loop; ``moved`` is told when it is another server."""
        if self.sentinels is None:
            return OneServer(self.servers)
        return LoopPrimary(self.sentinels, moved)


def blocking_topology(url: str, timeout: float) -> Topology:
    """What ``url`` means; opening, writing and reading take at most ``timeout`` seconds each.

    Raises:
        InvalidURL: the URL, or an option in it, cannot be used.
    """
    return _of_url(url, lambda one: Connector.of(blocking_client(one, timeout)))


def asyncio_topology(url: str) -> Topology:
    """What ``url`` means. Whoever opens a connection limits the time.

    Raises:
        InvalidURL: the URL, or an option in it, cannot be used.
    """
    return _of_url(url, lambda one: Connector.of(asyncio_client(one)))


def _of_url(url: str, connector: Callable[[str], Connector]) -> Topology:
    if (several := parse_cluster_url(url)) is not None:
        servers = connector(several.servers)
        return Topology(servers, cluster=Cluster(several.hosts, servers))
    parts = parse_sentinel_url(url)
    if parts is None:
        return Topology(connector(url))
    servers = connector(parts.servers)
    sentinels = tuple(connector(each) for each in parts.sentinels)
    return Topology(servers, Sentinels(parts.name, sentinels, servers))


def _of_cluster_client(client: ClusterClient) -> Topology:
    manager: Any = client.nodes_manager
    nodes = tuple((each.host, int(each.port)) for each in manager.startup_nodes.values())
    servers = Connector.of_cluster(client)
    return Topology(
        servers, cluster=Cluster(nodes, servers, getattr(manager, "address_remap", None))
    )


def topology_of(client: Client | ClusterClient) -> Topology:
    """What ``client`` leads to: its server, or the primary where it is one of ``Sentinel.master_for``, or its cluster.

    Raises:
        InvalidData: it is one of ``Sentinel.slave_for``; a replica takes no messages.
    """
    one: Any = client
    if is_a(client, redis.RedisCluster, redis.asyncio.RedisCluster):
        return _of_cluster_client(one)
    pool = one.connection_pool
    servers = Connector.of(one)
    of_sentinel = (
        redis.sentinel.SentinelConnectionPool,
        redis.asyncio.sentinel.SentinelConnectionPool,
    )
    if not is_a(pool, *of_sentinel):
        return Topology(servers)
    if not pool.is_master:
        raise InvalidData(
            "this client leads to replicas (slave_for), which take no messages: use master_for"
        )
    manager: Any = pool.sentinel_manager
    sentinels = Sentinels(
        pool.service_name,
        tuple(map(Connector.of, manager.sentinels)),
        servers,
        manager.min_other_sentinels,
        getattr(manager, "_force_master_ip", None),
    )
    return Topology(servers, sentinels)
