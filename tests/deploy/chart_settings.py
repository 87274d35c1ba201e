"""What the chart's schema says of settings: ``python -m tests.deploy.chart_settings`` writes it after a change of gateway/settings.py."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from gateway.settings import SECRETS, Settings

FILE: Final = Path(__file__).parents[2] / "deploy" / "helm" / "values.schema.json"

AS_FILES: Final = (*SECRETS, "jwt_public_key")
"""Those that the chart takes from Secrets."""

_INTERNAL: Final = "set by the chart, whose probes and Services use the internal port"
_TLS: Final = "set by the chart: see tls.secretName"
_DRAIN: Final = "set by the chart: see drain"
_API: Final = "set by the chart: see api"
_DEVELOPMENT: Final = "not for a cluster: a Redis of its own would end with the pod"
_NOT_HERE: Final = {
    **dict.fromkeys(AS_FILES, "not for values: name a Secret under secrets"),
    **dict.fromkeys((name for name in Settings.model_fields if name[:9] == "internal_"), _INTERNAL),
    "host": "set by the chart, in whose pods clients come to every address",
    "port": "set by the chart: service.port is the port for clients",
    **dict.fromkeys(("tls_certificate", "tls_key"), _TLS),
    **dict.fromkeys(("drain_delay_seconds", "drain_seconds"), _DRAIN),
    **dict.fromkeys(("api_host", "api_port"), _API),
    "node_name": "as the pod is called in the chart",
    "workers": "one in the chart: see replicas",
    **dict.fromkeys(("development", "data_folder"), _DEVELOPMENT),
}


def sections() -> dict[str, dict[str, Any]]:
    """The properties of ``settings`` and of ``secrets``."""
    reference = {"$ref": "#/definitions/reference"}
    return {
        "settings": {name: _setting(name) for name in Settings.model_fields},
        "secrets": {name: reference for name in Settings.model_fields if name in AS_FILES},
    }


def _setting(name: str) -> dict[str, Any]:
    if name in _NOT_HERE:
        # A schema has no messages of its own. Validators tell which constant it must be: the reason, which is refused too.
        reason = _NOT_HERE[name]
        return {"const": reason, "not": {"const": reason}}
    field = Settings.model_fields[name]
    return {**_kind(field.annotation), "description": field.description}


def _kind(annotation: Any) -> dict[str, Any]:
    """What a value may be, as it is put into a variable: a list and an object are texts there."""
    if get_origin(annotation) is Literal:
        return {"enum": list(get_args(annotation))}
    if get_origin(annotation) in {Union, types.UnionType}:
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
    # What `--set` makes of 0.5 is a text, and of a text of digits a number.
    kinds: dict[Any, dict[str, Any]] = {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$"},
    }
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return kinds.get(annotation, {"type": ["string", "number"]})


def main() -> None:
    """Write the schema."""
    schema = json.loads(FILE.read_text())
    for name, properties in sections().items():
        schema["properties"][name]["properties"] = properties
    FILE.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
