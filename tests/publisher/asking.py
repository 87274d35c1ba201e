"""Single calls to Redis, over a connection as the publisher's."""

from __future__ import annotations

from collections.abc import Sequence

from publisher.contract.calls import Call, Reply
from publisher.transport.flows import round_trips
from publisher.transport.topology import topology_of
from tests.support.topology import Looking


def ask(server: Looking, calls: Sequence[Call]) -> list[Reply]:
    """The replies of the server that ``server`` is a client of."""
    connections = topology_of(server).connections_for_threads(5.0)
    try:
        return connections.run(round_trips(calls))
    finally:
        connections.close()
