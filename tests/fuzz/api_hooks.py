"""What Schemathesis must know of the HTTP API beyond its document; it loads this module by ``SCHEMATHESIS_HOOKS``."""

from __future__ import annotations

import json
from typing import Any

import schemathesis

_LINES = "application/x-ndjson"
_WAIT_SECONDS = 0.01


@schemathesis.serializer(_LINES)
def lines(_context: Any, value: Any) -> bytes:
    """A body of one line."""
    return json.dumps(value).encode() + b"\n"


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Nobody confirms here, so nobody waits for it either."""
    if isinstance(body, dict) and isinstance(waiting := body.get("wait_confirmed"), int | float):
        body["wait_confirmed"] = min(waiting, _WAIT_SECONDS)
    return body


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """A line's answer is looked at as that of a publish is."""
    if case.path == "/v1/publish-many" and response.status_code == 200:
        answer = json.loads(response.text)
        if "code" in answer:
            response.headers["content-type"] = ["application/problem+json"]
            response.status_code = answer["status"]


@schemathesis.deserializer(_LINES)
def answer(_context: Any, response: Any) -> Any:
    """The answer to that line."""
    return json.loads(response.text)
