"""What requests name, as JSON Schema: channels, users, moments."""

from __future__ import annotations

from typing import Any, Final

from publisher.contract.channels import MAX_CHANNEL_BYTES
from publisher.records import LATEST_SECONDS, MAX_REASON_BYTES, MAX_TTL_SECONDS

_NAMESPACE: Final = "[A-Za-z0-9._:@-]+"
_NO_CONTROL: Final = r"[^\u0000-\u001f\u007f-\u009f]"

CHANNEL: Final = {
    "type": "string",
    "minLength": 3,
    "maxLength": MAX_CHANNEL_BYTES,
    "pattern": f"^{_NAMESPACE}/{_NO_CONTROL}+$",
    "description": "<namespace>/<id>",
}
ANY_CHANNEL: Final = {name: each for name, each in CHANNEL.items() if name != "pattern"}
"""One among several: where its form is wrong, that is told in its place."""
USER: Final = {"type": "string", "minLength": 1, "maxLength": 255, "description": "A user's id"}
CONNECTION: Final = {
    "type": "string",
    "pattern": "^[^/]+/[^/]+$",
    "description": "<node>/<id>, as connections tells it",
}
REASON: Final = {
    "type": "string",
    "maxLength": MAX_REASON_BYTES,
    "pattern": f"^{_NO_CONTROL}*$",
    "description": f"What clients are told, of {MAX_REASON_BYTES} bytes at most",
}
TTL: Final = {"type": "integer", "minimum": 1, "maximum": MAX_TTL_SECONDS, "description": "Seconds"}
MOMENT: Final = {
    "type": "number",
    "minimum": 0,
    "exclusiveMaximum": LATEST_SECONDS,
    "description": "Seconds since 1970",
}

PATH: Final[dict[str, dict[str, Any]]] = {
    "namespace": {"type": "string", "minLength": 1, "pattern": f"^{_NAMESPACE}$"},
    "id": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_CHANNEL_BYTES,
        "pattern": f"^{_NO_CONTROL}+$",
    },
    "user": USER,
    "scheduled": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
"""What a path may name."""


def without(*names: str) -> dict[str, Any]:
    """That members are not there."""
    return {"properties": dict.fromkeys(names, False)}
