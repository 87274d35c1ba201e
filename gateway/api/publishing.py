"""Publishing over HTTP: one message, many, or one body to many channels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api.asking import Answer, Asked
from gateway.api.bodies import LINES, parsed, read_lines
from gateway.api.names import ANY_CHANNEL, CHANNEL, MOMENT, TTL, USER, without
from gateway.api.problems import (
    PROBLEM_SCHEMA,
    Failures,
    Problem,
    invalid,
    of_error,
    too_large,
)
from gateway.api.shapes import Field, Shape, check_object
from publisher import Outgoing, Published, PublisherError, Scheduled
from publisher.contract.json_text import written
from publisher.contract.message import MAX_ID
from publisher.records import dump_json

MOST_BODY_BYTES: Final = 2 * 1024 * 1024
"""Twice what the library takes as a message's JSON: escapes like \\u00fc, which it does not keep, make a body longer."""
MOST_BROADCAST_BYTES: Final = 5 * 1024 * 1024
"""Room for as much data, and the longest names of as many channels as there may be."""
MOST_RECIPIENTS: Final = 10_000
_MOST_COPIED_BYTES: Final = 64 * 1024 * 1024
"""As many as a body of lines may have: so much a request may write into Redis."""

_DATA: Final = {"description": "Any JSON"}
_IDEMPOTENCY_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 1024}

_OPTIONS: Final[Shape] = (
    Field("ttl", TTL),
    Field("collapse_key", {"type": "string", "minLength": 1}),
)
_MESSAGE: Final[Shape] = (
    Field("channel", CHANNEL, required=True),
    Field("data", _DATA, required=True),
    *_OPTIONS,
)
MESSAGE: Final[Shape] = (
    *_MESSAGE,
    Field("at", MOMENT),
    Field("wait_confirmed", {"type": "number", "exclusiveMinimum": 0, "maximum": 60}),
)
NOT_BOTH: Final = {"anyOf": [without("at"), without("wait_confirmed")]}
LINE: Final[Shape] = (*_MESSAGE, Field("idempotency_key", _IDEMPOTENCY_KEY))
WHICH: Final[Shape] = (
    Field("message", {"type": "integer", "minimum": 1, "maximum": MAX_ID}, required=True),
)
BROADCAST: Final[Shape] = (
    Field("data", _DATA, required=True),
    Field(
        "channels",
        {"type": "array", "items": ANY_CHANNEL, "minItems": 1, "maxItems": MOST_RECIPIENTS},
    ),
    Field("users", {"type": "array", "items": USER, "minItems": 1, "maxItems": MOST_RECIPIENTS}),
)
EITHER: Final = {
    "oneOf": [
        {"required": ["channels"], **without("users")},
        {"required": ["users"], **without("channels")},
    ]
}
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
        "confirmed": {"type": "array", "items": {"type": "string"}, "description": "Users"},
    },
    "required": ["id", "channel", "duplicate", "timestamp"],
}
SCHEDULED: Final = {
    "type": "object",
    "properties": {"scheduled": {"type": "string"}, "at": {"type": "number"}},
    "required": ["scheduled", "at"],
}
PUBLISHED_OR_PROBLEM: Final = {"anyOf": [PUBLISHED, PROBLEM_SCHEMA]}
PUBLISHED_OR_SCHEDULED: Final = {"anyOf": [PUBLISHED, SCHEDULED]}


def _told_whether(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "boolean"}}, "required": [name]}


CANCELLED: Final = _told_whether("cancelled")
DELETED: Final = _told_whether("deleted")
RESULTS: Final = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": PUBLISHED_OR_PROBLEM}},
    "required": ["results"],
}


async def publish(asked: Asked) -> Answer:
    """``POST /v1/publish``."""
    channel, data = asked.body["channel"], asked.body["data"]
    asked.allow(channel)
    if "at" in asked.body and "wait_confirmed" in asked.body:
        raise invalid(
            "nobody waits for a message that is published later: leave wait_confirmed out"
        )
    asked.spend(1)
    options = {name: given for name, given in asked.body.items() if name not in {"channel", "data"}}
    publisher: Any = asked.publisher
    with asked.waiting() if "wait_confirmed" in options else contextlib.nullcontext():
        made: Published | Scheduled = await publisher.publish(
            channel,
            data,
            idempotency_key=asked.idempotency_key,
            traceparent=asked.traceparent,
            **options,
        )
    if isinstance(made, Scheduled):
        return {"scheduled": made.id, "at": made.at}
    told = _told(made)
    return told if made.confirmed is None else {**told, "confirmed": list(made.confirmed)}


async def cancel(asked: Asked) -> Answer:
    """``DELETE /v1/scheduled/{scheduled}``."""
    identifier = asked.request.match_info["scheduled"]
    if asked.key.namespaces is not None:
        waiting = await asked.publisher.scheduled(identifier)
        if waiting is None:
            return {"cancelled": False}
        asked.allow(waiting.channel)
    return {"cancelled": await asked.publisher.cancel(identifier)}


async def delete(asked: Asked) -> Answer:
    """``DELETE /v1/messages/{namespace}/{id}``."""
    return {"deleted": await asked.publisher.delete(asked.channel, asked.query["message"])}


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
    failures = Failures()
    try:
        async for lines in read_lines(asked.request, MOST_BODY_BYTES, asked.admitted):
            told = [*map(written, await _publish_lines(asked, lines, failures))]
            asked.admitted.change(sum(map(len, told)))
            answers += told
    except Problem as problem:
        if not answers:
            raise
        # Some are published, and their answers must be told.
        answers.append(written(problem.members))
    finally:
        failures.tell()
    return web.Response(body=b"\n".join([*answers, b""]), content_type=LINES)


async def _publish_lines(
    asked: Asked, lines: list[bytes | Problem], failures: Failures
) -> list[Mapping[str, Any]]:
    """The answer to each line."""
    read = [_read_line(asked, line) for line in lines]
    made = await asked.publisher.publish_many(each for each in read if isinstance(each, Outgoing))
    outcomes = _outcomes(made, failures)
    return [each.members if isinstance(each, Problem) else next(outcomes) for each in read]


def _read_line(asked: Asked, line: bytes | Problem) -> Outgoing | Problem:
    if isinstance(line, Problem):
        return line
    try:
        told = check_object(LINE, parsed(line))
        asked.allow(told["channel"])
        asked.spend(1)
    except Problem as problem:
        return problem
    return Outgoing(**told, traceparent=asked.traceparent)


def _outcomes(
    made: Iterable[Published | PublisherError], failures: Failures
) -> Iterator[Mapping[str, Any]]:
    for each in made:
        if isinstance(each, PublisherError):
            failures.note(each)
            yield of_error(each).members
        else:
            yield _told(each)


async def broadcast(asked: Asked) -> Answer:
    """``POST /v1/broadcast``."""
    body = asked.body
    if ("channels" in body) == ("users" in body):
        raise invalid("name either channels or users")
    channels = body.get("channels") or [f"notifications/{user}" for user in body["users"]]
    if len(dump_json(body["data"], MOST_BROADCAST_BYTES)) * len(channels) > _MOST_COPIED_BYTES:
        raise too_large(f"the data and its copies have more than {_MOST_COPIED_BYTES} bytes")
    for channel in channels:
        asked.allow(channel)
    asked.spend(len(channels))
    outcomes = await asked.publisher.broadcast(
        body["data"],
        channels=body.get("channels"),
        users=body.get("users"),
        idempotency_key=asked.idempotency_key,
        traceparent=asked.traceparent,
    )
    failures = Failures()
    results = [*_outcomes(outcomes, failures)]
    failures.tell()
    return {"results": results}
