"""Giving and taking access over HTTP: grants, connections, tokens."""

from __future__ import annotations

from typing import Any, Final

from gateway.api.asking import Answer, Asked
from gateway.api.names import CHANNEL, CONNECTION, MOMENT, REASON, TTL, USER, without
from gateway.api.problems import invalid
from gateway.api.shapes import Field, Shape
from publisher import EVERYBODY, Everybody
from publisher.operations import DEFAULT_GRANT_TTL_SECONDS

_TTL: Final = {
    **TTL,
    "type": ["integer", "null"],
    "default": DEFAULT_GRANT_TTL_SECONDS,
    "description": "Seconds; null for ever",
}
_EVERYBODY: Final = {"type": "boolean", "description": "true in place of a user: all users"}
GRANTEE: Final[Shape] = (
    Field("channel", CHANNEL, required=True),
    Field("user", USER),
    Field("everybody", _EVERYBODY),
)
GRANT: Final[Shape] = (*GRANTEE, Field("ttl", _TTL))
ONE_GRANTEE: Final = {
    "oneOf": [
        {"required": ["user"], "properties": {"everybody": {"const": False}}},
        {"required": ["everybody"], "properties": {"everybody": {"const": True}, "user": False}},
    ]
}
DISCONNECT: Final[Shape] = (
    Field("user", USER, required=True),
    Field("reason", REASON),
    Field("connection", CONNECTION),
)
TOKEN: Final[Shape] = (
    Field("jti", {"type": "string", "minLength": 1, "description": "With until: one token"}),
    Field(
        "until",
        {**MOMENT, "description": "Seconds since 1970, when the token ends by itself: its exp"},
    ),
    Field("user", {**USER, "description": "With before: all older tokens of the user"}),
    Field(
        "before",
        {**MOMENT, "description": "Seconds since 1970; tokens that were issued before are revoked"},
    ),
)
ONE_OR_OLDER: Final = {
    "oneOf": [
        {"required": ["jti", "until"], **without("user", "before")},
        {"required": ["user", "before"], **without("jti", "until")},
    ]
}
REVOKED: Final = {
    "type": "object",
    "properties": {"revoked": {"type": "boolean", "description": "Whether there was a grant"}},
    "required": ["revoked"],
}


def _grantee(given: Any) -> str | Everybody:
    if ("user" in given) == bool(given.get("everybody")):
        raise invalid("name either a user, or everybody as true")
    return EVERYBODY if given.get("everybody") else str(given["user"])


async def grant(asked: Asked) -> Answer:
    """``PUT /v1/grants``."""
    body = asked.body
    asked.allow(body["channel"])
    lifetime = {"ttl": body["ttl"]} if "ttl" in body else {}
    await asked.publisher.grant(body["channel"], _grantee(body), **lifetime)
    return None


async def revoke(asked: Asked) -> Answer:
    """``DELETE /v1/grants``."""
    asked.allow(asked.query["channel"])
    revoked = await asked.publisher.revoke(asked.query["channel"], _grantee(asked.query))
    return {"revoked": revoked}


async def disconnect(asked: Asked) -> Answer:
    """``POST /v1/disconnect``."""
    body = asked.body
    await asked.publisher.disconnect(
        body["user"], reason=body.get("reason", ""), connection=body.get("connection")
    )
    return None


async def forget(asked: Asked) -> Answer:
    """``DELETE /v1/users/{user}``."""
    asked.allow_everywhere()
    await asked.publisher.forget(asked.user)
    return None


async def revoke_token(asked: Asked) -> Answer:
    """``POST /v1/revoke-token``."""
    body = asked.body
    if body.keys() == {"jti", "until"}:
        await asked.publisher.revoke_token(body["jti"], body["until"])
    elif body.keys() == {"user", "before"}:
        await asked.publisher.revoke_tokens_before(body["user"], body["before"])
    else:
        raise invalid("name either jti and until, or user and before")
    return None
