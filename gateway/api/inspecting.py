"""How users and channels stand with the nodes at this moment, and what happens to them, for operators; it is told by the nodes themselves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api.asking import Answer, Asked
from gateway.api.bodies import LINES
from gateway.api.names import CHANNEL as CHANNEL_SCHEMA
from gateway.api.names import USER as USER_SCHEMA
from gateway.api.problems import Failures, Problem, invalid, of_error
from gateway.api.shapes import Field
from gateway.node.inspection import MOST_CHANNELS
from publisher import PublisherError
from publisher.contract.channels import MAX_CHANNEL_BYTES, parse_channel
from publisher.contract.inspection import CHANNEL, CHANNELS, USER, readable
from publisher.contract.json_text import written
from publisher.records import check_user

_ID: Final = {"type": "integer", "description": "Microseconds since 1970; 0 for none"}
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_STANDING: Final = {
    "state": {
        "enum": ["live", "catching_up", "paused", "joining"],
        "description": "Whether it hears live messages, or why it does not yet",
    },
    "sent_up_to": _ID,
    "confirmed_up_to": {
        **_ID,
        "description": "Proven on this connection, which begins at what its user had confirmed; 0 for none",
    },
}
_MISSING: Final = {
    "type": "array",
    "items": _TEXT,
    "description": "Nodes that have not answered in time",
}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(**properties: Any) -> dict[str, Any]:
    return {"type": "array", "items": _object(**properties)}


OF_USER: Final = _object(
    connections=_list(
        connection={**_TEXT, "description": "<node>/<id>"},
        connected_at={**_NUMBER, "description": "Milliseconds since 1970"},
        behind={"type": "boolean", "description": "Too slow for live delivery just now"},
        untaken_bytes={**_NUMBER, "description": "Written, and not taken by the client yet"},
        subscriptions=_list(channel=_TEXT, **_STANDING),
        count={**_NUMBER, "description": "Of its subscriptions, also those not listed"},
    ),
    missing=_MISSING,
)
OF_CHANNEL: Final = _object(
    subscriptions=_list(connection=_TEXT, user=_TEXT, **_STANDING),
    nodes=_list(node=_TEXT, subscriptions=_NUMBER, position=_ID),
    count={**_NUMBER, "description": "Of all subscriptions, also those not listed"},
    missing=_MISSING,
)
OF_CHANNELS: Final = _object(
    channels=_list(channel=_TEXT, subscriptions=_NUMBER, nodes=_NUMBER), missing=_MISSING
)
HAPPENED: Final = {
    "type": "object",
    "properties": {
        "kind": {
            "enum": [
                *("watching", "written", "replayed", "confirmed", "connected", "disconnected"),
                *("subscribed", "unsubscribed", "lost", "left_out", "not_watched"),
            ]
        },
        "at": _ID,
    },
    "required": ["kind"],
    "description": "A line each; a blank line every few seconds where nothing happens",
}
CHANNELS_QUERY: Final = (
    Field(
        "start",
        {
            "type": "string",
            "maxLength": MAX_CHANNEL_BYTES,
            "description": "Only channels whose names begin with this",
        },
    ),
)
WATCH_QUERY: Final = (Field("channel", CHANNEL_SCHEMA), Field("user", USER_SCHEMA))


async def of_user(asked: Asked) -> Answer:
    """``GET /v1/users/{user}``: what the nodes that hold places of the user say."""
    held = await asked.publisher.connections(asked.user)
    told, missing = await asked.sources.inquiries.ask(
        USER, asked.user, {each.node for each in held}, asked.key.namespaces
    )
    connections = _joined(told.values(), "connections")
    for each in connections:
        each["subscriptions"] = [*_readable(asked, each["subscriptions"])]
    return {"connections": connections, "missing": missing}


async def of_channel(asked: Asked) -> Answer:
    """``GET /v1/subscriptions/{namespace}/{id}``: who is subscribed, and how far they are."""
    name = parse_channel(asked.channel).name
    told, missing = await asked.sources.inquiries.ask(CHANNEL, name, await _nodes(asked), None)
    nodes = [
        {"node": node, "subscriptions": each["count"], "position": each["position"]}
        for node, each in sorted(told.items())
        if each["count"]
    ]
    return {
        "subscriptions": _joined(told.values(), "subscriptions"),
        "nodes": nodes,
        "count": sum(each["subscriptions"] for each in nodes),
        "missing": missing,
    }


async def of_channels(asked: Asked) -> Answer:
    """``GET /v1/channels``: those with most subscriptions. A channel that is rare on each node may be left out."""
    told, missing = await asked.sources.inquiries.ask(
        CHANNELS, asked.query.get("start", ""), await _nodes(asked), asked.key.namespaces
    )
    found: dict[str, dict[str, Any]] = {}
    for each in _readable(asked, _joined(told.values(), "channels")):
        known = found.setdefault(
            each["channel"], {"channel": each["channel"], "subscriptions": 0, "nodes": 0}
        )
        known["subscriptions"] += each["subscriptions"]
        known["nodes"] += 1
    ordered = sorted(found.values(), key=lambda each: (-each["subscriptions"], each["channel"]))
    return {"channels": ordered[:MOST_CHANNELS], "missing": missing}


async def watch(asked: Asked) -> web.StreamResponse:
    """``GET /v1/watch``: what happens, a JSON object a line, until the caller goes away."""
    query = asked.query
    if len(query) != 1:
        raise invalid("name either a channel or a user")
    if "channel" in query:
        asked.allow(parse_channel(query["channel"]).name)
    else:
        check_user(query["user"])
    about, name = (CHANNEL, query["channel"]) if "channel" in query else (USER, query["user"])
    response = web.StreamResponse()
    response.content_type = LINES
    inquiries, namespaces = asked.sources.inquiries, asked.key.namespaces
    with asked.watching():
        async with contextlib.aclosing(inquiries.watch(about, name, namespaces)) as parts:
            try:
                await anext(parts)
                await response.prepare(asked.request)
                await response.write(written({"kind": "watching"}) + b"\n")
                async for line in _lines(asked, parts):
                    await response.write(line)
            except PublisherError as error:
                if not response.prepared:
                    raise
                Failures(error).tell()
                await response.write(written(of_error(error).members) + b"\n")
            except Problem as problem:
                await response.write(written(problem.members) + b"\n")
    return response


async def _lines(
    asked: Asked, parts: AsyncIterator[tuple[list[Mapping[str, Any]], int]]
) -> AsyncIterator[bytes]:
    async for events, left_out in parts:
        asked.still_counts()
        told = [*_readable(asked, events)]
        if left_out:
            told.append({"kind": "left_out", "events": left_out})
        yield b"".join(written(each) + b"\n" for each in told) or b"\n"


async def _nodes(asked: Asked) -> list[str]:
    return [each.name for each in await asked.publisher.nodes()]


def _joined(told: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    return [each for one in told for each in one.get(name, [])]


def _readable(asked: Asked, found: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """What the key may read: all, or what is of its namespaces."""
    for each in found:  # nodes of earlier versions tell more
        channel = each.get("channel")
        if channel is None or readable(channel, asked.key.namespaces):
            yield each
