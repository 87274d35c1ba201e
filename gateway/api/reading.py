"""Looking inside over HTTP: a channel's history and who is in it, a user's connections, the nodes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict
from typing import Any, Final

import orjson

from gateway.api.asking import Answer, Asked
from gateway.api.names import USER
from gateway.api.shapes import Field
from publisher import Entry, Node
from publisher.contract.json_text import written
from publisher.contract.message import MAX_ID

_MOST_MESSAGES: Final = 1_000
_USUAL_MESSAGES: Final = 100
_MOST_BYTES: Final = 8 * 1024 * 1024
_LARGEST_PAGE: Final = 16
"""So many may be as large as a message can be and not stop the event loop for long, which has sockets to serve."""
_BYTES_OF_A_PAGE: Final = 1024 * 1024
"""What is read, parsed and written again in one turn of the event loop, if the next messages are like those before."""

HISTORY_QUERY: Final = (
    Field("after", {"type": "integer", "minimum": 0, "maximum": MAX_ID}),
    Field(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": _MOST_MESSAGES, "default": _USUAL_MESSAGES},
    ),
)
_MOST_USERS: Final = 1_000
USERS_QUERY: Final = (
    Field("after", {**USER, "description": "Only users who come after this one"}),
    Field(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": _MOST_USERS, "default": _MOST_USERS},
    ),
)
_ID: Final = {"type": "integer", "description": "Microseconds since 1970"}
_MILLISECONDS: Final = {"type": "integer", "description": "Milliseconds since 1970"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(**properties: Any) -> dict[str, Any]:
    return {"type": "array", "items": _object(**properties)}


MESSAGES: Final = _object(
    messages=_list(
        id=_ID,
        channel={"type": "string"},
        data={"description": "Any JSON"},
        timestamp=_MILLISECONDS,
    ),
    more={"type": "boolean", "description": "Ask again after the last id"},
)
CONNECTIONS: Final = _object(
    connections=_list(
        connection={"type": "string", "description": "<node>/<id>"}, lease_expires_at=_MILLISECONDS
    )
)
RECEIPTS: Final = _object(
    receipts=_list(user={"type": "string"}, up_to=_ID),
    more={
        "type": "boolean",
        "description": "Ask again with the last `up_to` as `message`, and the last `user` as `after`",
    },
)
CHANNEL: Final = _object(
    users={"type": "array", "items": {"type": "string"}, "description": "Each user once, sorted"},
    count={"type": "integer", "description": "Of all users, also of those who are not listed"},
    more={
        "type": "boolean",
        "description": "Ask again after the last user. Who is there all the while is told once",
    },
)
NODES: Final = _object(nodes=_list(name={"type": "string"}, report={"type": ["object", "null"]}))
_SUMMED: Final = (
    "connections",
    "connections_limit",
    "subscriptions",
    "received_per_second",
    "delivered_per_second",
    "opened_per_second",
)
STATS: Final = _object(
    nodes={"type": "integer"},
    ready={"type": "integer", "description": "Nodes that take connections"},
    draining={"type": "integer"},
    silent={
        "type": "integer",
        "description": "Nodes that live and have told nothing of themselves",
    },
    **{name: {"type": "number"} for name in _SUMMED},
    event_loop_lag={"type": "number", "description": "The longest, in seconds"},
)


async def history(asked: Asked) -> Answer:
    """``GET /v1/history/{namespace}/{id}``: the messages after an id, until there are enough of them or of bytes."""
    channel, after = asked.channel, asked.query.get("after", 0)
    limit = asked.query.get("limit", _USUAL_MESSAGES)
    found: list[dict[str, Any]] = []
    size, page, more = 0, 1, True
    while more and len(found) < limit:
        page = min(page, limit - len(found))
        entries = await asked.publisher.history(channel, after, page)
        more = len(entries) == page
        for each in entries:
            data = written(each.data)
            if found and size + len(data) > _MOST_BYTES:
                return {"messages": found, "more": True}
            asked.admitted.hold(len(data))
            found.append(_entry(each, data))
            size += len(data)
            after = each.id
        # Those so far tell how large the next ones are, which may be wrong.
        fitting = _BYTES_OF_A_PAGE * len(found) // (size + 1)
        page = max(1, min(fitting, 2 * page, _LARGEST_PAGE))
    return {"messages": found, "more": more}


def _entry(entry: Entry, data: bytes) -> dict[str, Any]:
    return {
        "id": entry.id,
        "channel": entry.channel,
        # As a fragment it is not written twice, and is nested no deeper than when it was published.
        "data": orjson.Fragment(data),
        "timestamp": entry.timestamp,
    }


async def channel(asked: Asked) -> Answer:
    """``GET /v1/channels/{namespace}/{id}``: who is there."""
    users = await asked.sources.presence.users(asked.channel, asked.publisher)
    first = bisect_right(users, asked.query.get("after", ""))
    stop = first + asked.query.get("limit", _MOST_USERS)
    return {"users": users[first:stop], "count": len(users), "more": stop < len(users)}


async def connections(asked: Asked) -> Answer:
    """``GET /v1/connections/{user}``."""
    found = await asked.publisher.connections(asked.user)
    told = [
        {"connection": f"{each.node}/{each.id}", "lease_expires_at": each.lease_expires_at}
        for each in found
    ]
    return {"connections": told}


async def receipts(asked: Asked) -> Answer:
    """``GET /v1/receipts/{namespace}/{id}``."""
    query, limit = asked.query, asked.query.get("limit", _MOST_USERS)
    found = await asked.publisher.receipts(
        asked.channel, query["message"], after=query.get("after", ""), limit=limit + 1
    )
    told = [{"user": each.user, "up_to": each.up_to} for each in found[:limit]]
    return {"receipts": told, "more": len(found) > limit}


async def nodes(asked: Asked) -> Answer:
    """``GET /v1/nodes``."""
    return {"nodes": [asdict(each) for each in await asked.publisher.nodes()]}


async def stats(asked: Asked) -> Answer:
    """``GET /v1/stats``."""
    return summed(await asked.publisher.nodes())


def summed(found: list[Node]) -> dict[str, Any]:
    """All nodes together."""
    reports = [each.report for each in found if each.report is not None]
    return {
        "nodes": len(found),
        "ready": sum(each.ready for each in reports),
        "draining": sum(each.draining for each in reports),
        "silent": len(found) - len(reports),
        **{name: round(sum(getattr(each, name) for each in reports), 1) for name in _SUMMED},
        "event_loop_lag": max((each.event_loop_lag for each in reports), default=0.0),
    }
