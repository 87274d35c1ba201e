"""How a user, a channel or all channels stand with this node, for operators; bounded, whatever it holds."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Collection
from itertools import islice
from typing import Any, Final, TypeAlias

from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from publisher.contract.inspection import readable

MOST_CONNECTIONS: Final = 50
MOST_SUBSCRIPTIONS: Final = 100
"""Of a connection, and of a channel."""
MOST_CHANNELS: Final = 200
_AT_ONCE: Final = 2_000
"""So many connections or channels are looked at in one turn of the event loop."""


Namespaces: TypeAlias = Collection[str] | None
"""Of which channels something is told; ``None`` for all."""


async def of_user(hub: Hub, node: str, user: str, namespaces: Namespaces) -> dict[str, Any]:
    """A user's connections, with their subscriptions."""
    found = [each async for each in _connections(hub) if each.user == user]
    told = [_connection(each, node, namespaces) for each in found[:MOST_CONNECTIONS]]
    return {"connections": told, "count": len(found)}


async def of_channel(hub: Hub, node: str, name: str) -> dict[str, Any]:
    """A channel's subscriptions."""
    found = [
        subscription
        async for each in _connections(hub)
        if (subscription := each.subscriptions.get(name)) is not None
    ]
    channel = hub.channels.get(name)
    told = [
        {
            "connection": f"{node}/{each.connection.id}",
            "user": each.connection.user,
            **_subscription(each),
        }
        for each in found[:MOST_SUBSCRIPTIONS]
    ]
    position = channel.position if channel is not None and channel.members else 0
    return {"subscriptions": told, "count": len(found), "position": position}


async def of_channels(hub: Hub, start: str, namespaces: Namespaces) -> dict[str, Any]:
    """The channels with most subscriptions, whose names begin with ``start``."""
    found: list[tuple[int, str]] = []
    count = 0
    channels = list(hub.channels.values())
    for first in range(0, len(channels), _AT_ONCE):
        part = [
            (sum(map(len, each.members.values())) + each.away, each.name)
            for each in channels[first : first + _AT_ONCE]
            if each.name.startswith(start) and readable(each.name, namespaces)
        ]
        count += len(part)
        found = heapq.nlargest(MOST_CHANNELS, [*found, *part])
        await asyncio.sleep(0)
    told = [{"channel": name, "subscriptions": members} for members, name in found if members]
    return {"channels": told, "count": count}


async def _connections(hub: Hub) -> AsyncIterator[Connection]:
    connections = list(hub.connections.values())
    for first in range(0, len(connections), _AT_ONCE):
        if first:
            await asyncio.sleep(0)
        for each in connections[first : first + _AT_ONCE]:
            yield each


def _connection(connection: Connection, node: str, namespaces: Namespaces) -> dict[str, Any]:
    subscriptions = {
        name: each for name, each in connection.subscriptions.items() if readable(name, namespaces)
    }
    return {
        "connection": f"{node}/{connection.id}",
        "connected_at": connection.entered_at // 1000,
        "behind": connection.behind,
        "untaken_bytes": connection.socket.untaken,
        "subscriptions": [
            {"channel": name, **_subscription(each)}
            for name, each in islice(subscriptions.items(), MOST_SUBSCRIPTIONS)
        ],
        "count": len(subscriptions),
    }


def _subscription(subscription: Subscription) -> dict[str, Any]:
    return {
        "state": _state(subscription),
        "sent_up_to": max(subscription.sent_upto, 0),
        "confirmed_up_to": subscription.confirmed_upto,
    }


def _state(subscription: Subscription) -> str:
    if subscription.live is not None:
        return "live"
    if subscription.pause is not None:
        return "paused"
    if subscription.answers:
        return "joining"
    return "catching_up"
