"""What a node says of itself, as JSON under a key of its own, for operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final

import orjson


@dataclass(frozen=True, slots=True)
class NodeReport:
    """How a node was a few seconds ago.

    Attributes:
        version: of the gateway.
        since: when it was started, in milliseconds since 1970 by its own clock.
        ready: whether a balancer should send connections to it.
        draining: whether it is about to end.
        connections: that it holds.
        connections_limit: that it may hold.
        subscriptions: of all its connections.
        channels: that it listens to.
        received_per_second: messages that came from Redis.
        delivered_per_second: live messages that were written, once for each connection.
        opened_per_second: connections that were let in.
        event_loop_lag: how late its last sweep came, in seconds.
        redis_down: servers of Redis through which it does not hear itself, as ``host:port``.
    """

    version: str
    since: int
    ready: bool
    draining: bool
    connections: int
    connections_limit: int
    subscriptions: int
    channels: int
    received_per_second: float
    delivered_per_second: float
    opened_per_second: float
    event_loop_lag: float
    redis_down: tuple[str, ...] = ()


_KINDS: Final = {"str": str, "int": int, "bool": bool, "float": int | float}
_TYPES: Final = {
    each.name: _KINDS[str(each.type)] for each in fields(NodeReport) if each.name != "redis_down"
}


def encode(report: NodeReport) -> bytes:
    """As it stands in Redis."""
    return orjson.dumps(asdict(report))


def decode(stored: bytes | None) -> NodeReport | None:
    """What stands there. ``None`` where nothing does, or what this version cannot read; fields of a later one are skipped."""
    if stored is None:
        return None
    try:
        found = orjson.loads(stored)
        if not all(isinstance(found[name], kind) for name, kind in _TYPES.items()):
            return None
        known = {name: found[name] for name in _TYPES}
        return NodeReport(**known, redis_down=tuple(map(str, found.get("redis_down", ()))))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return None
