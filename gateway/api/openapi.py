"""The OpenAPI document (3.1), made of the table by which requests are served."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from gateway.api.asking import KEY_HEADER, TRACE_HEADER, Endpoint
from gateway.api.bodies import JSON, LINES
from gateway.api.names import PATH
from gateway.api.problems import CONTENT_TYPE, PROBLEM_SCHEMA
from gateway.api.shapes import schema_of

_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "help": {"type": "string", "description": "Where the code is explained"},
        "maybe_sent": {"type": "boolean", "description": "Whether the call may have taken effect"},
        "retryable": {"type": "boolean", "description": "Whether the same call may succeed later"},
    },
    "required": ["type", "title", "status", "detail", "code", "help"],
}
_OF_ALL: Final = frozenset({400, 401, 403, 404, 405, 500, 503})
_OF_BODIES: Final = frozenset({408, 413, 415})


def document(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """All that is served."""
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway HTTP API", "version": version},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "summary": endpoint.summary,
        "description": f"The key needs the scope {endpoint.scope}.",
        "security": [{"key": []}],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        content = {JSON: {"schema": {**schema_of(endpoint.body), **endpoint.together}}}
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.lines is not None:
        # OpenAPI 3.1 knows no lines: the schema is that of each.
        content = {LINES: {"schema": schema_of(endpoint.lines)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _name(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", endpoint.path.removeprefix("/v1"))
    return "_".join([endpoint.method.lower(), *words])


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": PATH[name],
        }
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    found += [
        {"name": each.name, "in": "query", "required": each.required, "schema": dict(each.schema)}
        for each in endpoint.query
    ]
    if endpoint.keyed:
        schema = {"type": "string", "minLength": 1}
        found.append({"name": KEY_HEADER, "in": "header", "required": False, "schema": schema})
    if endpoint.traced:
        trace = {
            "type": "string",
            "description": "W3C Trace Context; one that is malformed is ignored",
        }
        found.append({"name": TRACE_HEADER, "in": "header", "required": False, "schema": trace})
    return found


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if endpoint.answer is None:
        found["204"] = {"description": "Done"}
    else:
        kind = LINES if endpoint.streamed or endpoint.lines is not None else JSON
        found["200"] = {
            "description": endpoint.summary,
            "content": {kind: {"schema": dict(endpoint.answer)}},
        }
    statuses = _OF_ALL | endpoint.problems
    if endpoint.body is not None or endpoint.lines is not None:
        statuses |= _OF_BODIES
    if endpoint.scope == "publish":
        statuses |= {429}
    for status in sorted(statuses):
        found[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {CONTENT_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
    return found
