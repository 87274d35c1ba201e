"""``docs/asyncapi.yaml`` as it is read: the schema of each message, by who sends it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

DOCS = Path(__file__).parents[2] / "docs"
ASYNCAPI_TEXT = (DOCS / "asyncapi.yaml").read_text("utf-8")
ASYNCAPI: dict[str, Any] = yaml.safe_load(ASYNCAPI_TEXT)
SENDERS = {
    "client": "fromClient",
    "server": "fromServer",
    "stream": "fromStream",
    "poll": "fromPoll",
}


def schemas(sender: str) -> dict[str, Draft7Validator]:
    """What checks the messages of a sender, by their type; ``data`` is that of all others."""
    found = {}
    for reference in ASYNCAPI["operations"][SENDERS[sender]]["messages"]:
        message = ASYNCAPI["components"]["messages"][reference["$ref"].rpartition("/")[2]]
        schema = {**message["payload"], "components": ASYNCAPI["components"]}
        found[message["name"]] = Draft7Validator(schema)
    return found


def problems(sender: str, message: dict[str, Any]) -> list[str]:
    """What is wrong with a message."""
    known = schemas(sender)
    name = message["type"] if message["type"] in known else "data"
    if name not in known:
        return [f"no message of the {sender} is {name}"]
    return [error.message for error in known[name].iter_errors(message)]


def examples(page: str, sender: str) -> list[dict[str, Any]]:
    """The examples of ``protocol.md``: one a line, in an event stream behind ``data:``."""
    (block,) = re.findall(
        rf"<!-- example: {sender} -->\n```(?:json|text)\n(.*?)```", page, re.DOTALL
    )
    lines = (line.removeprefix("data: ") for line in block.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]
