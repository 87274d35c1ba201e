"""Single calls to Redis, over a connection as the publisher's."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from publisher.contract.calls import Call, Reply
from publisher.transport.blocking import Connections, run
from publisher.transport.flows import round_trips
from publisher.transport.topology import topology_of


def ask(server: redis.Redis, calls: Sequence[Call]) -> list[Reply]:
    """The replies of the server that ``server`` is a client of."""
    connections = Connections(topology_of(server).for_threads(), 5.0)
    try:
        return run(round_trips(calls), connections)
    finally:
        connections.close()
