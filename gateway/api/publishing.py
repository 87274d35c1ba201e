"""Publishing over HTTP: one message, many, or one body to many channels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.api.asking import Answer, Asked
from gateway.api.bodies import LINES, parsed, read_lines
from gateway.api.problems import Problem, invalid, of_error, too_large
from gateway.api.shapes import Field, Shape, check_object
from publisher import Outgoing, Published, PublisherError

MOST_BODY_BYTES: Final = 2 * 1024 * 1024
"""Twice what the library takes as a message's JSON: escapes like \\u00fc, which it does not keep, make a body longer."""
MOST_BROADCAST_BYTES: Final = 8 * 1024 * 1024
MOST_RECIPIENTS: Final = 10_000
_MOST_COPIED_BYTES: Final = 64 * 1024 * 1024
"""As many as a body of lines may have: so much a request may write into Redis."""
_AT_ONCE: Final = 500

CHANNEL: Final = {
    "type": "string",
    "minLength": 3,
    "maxLength": 255,
    "pattern": "^[A-Za-z0-9._:@-]+/.+$",
    "description": "<namespace>/<id>",
}
USER: Final = {"type": "string", "minLength": 1, "maxLength": 255, "description": "A user's id"}
_DATA: Final = {"description": "Any JSON"}
_IDEMPOTENCY_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 1024}

MESSAGE: Final[Shape] = (
    Field("channel", CHANNEL, required=True),
    Field("data", _DATA, required=True),
)
LINE: Final[Shape] = (*MESSAGE, Field("idempotency_key", _IDEMPOTENCY_KEY))
BROADCAST: Final[Shape] = (
    Field("data", _DATA, required=True),
    Field(
        "channels", {"type": "array", "items": CHANNEL, "minItems": 1, "maxItems": MOST_RECIPIENTS}
    ),
    Field("users", {"type": "array", "items": USER, "minItems": 1, "maxItems": MOST_RECIPIENTS}),
)
PUBLISHED: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "description": "0 where the namespace keeps no log"},
        "channel": {"type": "string"},
        "duplicate": {
            "type": "boolean",
            "description": "Published by an earlier call with this key",
        },
        "timestamp": {"type": ["integer", "null"], "description": "Milliseconds since 1970"},
    },
    "required": ["id", "channel", "duplicate", "timestamp"],
}
RESULTS: Final = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": {"type": "object"}}},
    "required": ["results"],
}


async def publish(asked: Asked) -> Answer:
    """``POST /v1/publish``."""
    channel = asked.body["channel"]
    asked.allow(channel)
    asked.spend(1)
    published = await asked.publisher.publish(
        channel, asked.body["data"], idempotency_key=asked.idempotency_key
    )
    return _told(published)


def _told(published: Published) -> dict[str, Any]:
    return {
        "id": published.id,
        "channel": published.channel,
        "duplicate": published.duplicate,
        "timestamp": published.id // 1000 or None,
    }


async def publish_many(asked: Asked) -> Answer:
    """``POST /v1/publish-many``.

    The answers are kept until the body is read whole: a client that reads none of them before would wait for the gateway, and
    the gateway for the client.
    """
    answers: list[bytes] = []
    try:
        async for lines in read_lines(asked.request, MOST_BODY_BYTES):
            answers += map(orjson.dumps, await _publish_lines(asked, lines))
    except Problem as problem:
        if not answers:
            raise
        # Some are published, and their answers must be told.
        answers.append(orjson.dumps(problem.members))
    return web.Response(body=b"\n".join([*answers, b""]), content_type=LINES)


async def _publish_lines(asked: Asked, lines: list[bytes | Problem]) -> list[Mapping[str, Any]]:
    """The answer to each line."""
    read = [_read_line(asked, line) for line in lines]
    outcomes = iter(
        await asked.publisher.publish_many(each for each in read if isinstance(each, Outgoing))
    )
    return [
        each.members if isinstance(each, Problem) else _outcome(next(outcomes)) for each in read
    ]


def _read_line(asked: Asked, line: bytes | Problem) -> Outgoing | Problem:
    if isinstance(line, Problem):
        return line
    try:
        told = check_object(LINE, parsed(line))
        asked.allow(told["channel"])
        asked.spend(1)
    except Problem as problem:
        return problem
    return Outgoing(told["channel"], told["data"], told.get("idempotency_key"))


def _outcome(outcome: Published | PublisherError) -> Mapping[str, Any]:
    if isinstance(outcome, PublisherError):
        return of_error(outcome).members
    return _told(outcome)


async def broadcast(asked: Asked) -> Answer:
    """``POST /v1/broadcast``."""
    body = asked.body
    if ("channels" in body) == ("users" in body):
        raise invalid("name either channels or users")
    channels = body.get("channels") or [f"notifications/{user}" for user in body["users"]]
    if len(orjson.dumps(body["data"])) * len(channels) > _MOST_COPIED_BYTES:
        raise too_large(f"the data and its copies have more than {_MOST_COPIED_BYTES} bytes")
    for channel in channels:
        asked.allow(channel)
    asked.spend(len(channels))
    key = asked.idempotency_key
    results: list[Mapping[str, Any]] = []
    messages = (Outgoing(channel, body["data"], key) for channel in channels)
    while part := list(islice(messages, _AT_ONCE)):
        results += map(_outcome, await asked.publisher.publish_many(part))
    return {"results": results}
