"""What a setting's value is read from, and which values it may have. Each function takes a value and returns it.

Raises:
    ValueError: what to correct; pydantic adds the setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

import orjson
from pydantic import SecretStr, ValidationInfo

from gateway.core.addresses import TrustedProxies
from gateway.core.header_lists import is_cookie_name
from gateway.core.origins import AllowedOrigins, in_clear_text, of_strangers
from gateway.core.protocol import RESERVED
from publisher.contract.channels import configured
from publisher.contract.events import KINDS
from publisher.contract.redis_url import check_url
from publisher.contract.sealing import KeyRing
from publisher.contract.secret_values import read_secret
from publisher.errors import InvalidNamespace

LAST_PORT: Final = 65_535
LONGEST_WAIT_SECONDS: Final = 7 * 86_400
_PATH: Final = re.compile(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_NAME: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_OTHER_SEPARATOR: Final = re.compile(r"[\s;]")
"""What separates the parts of a list elsewhere; no part of ours holds it."""
_HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})


def parts(value: object) -> object:
    """The parts of a list that is written with commas."""
    if not isinstance(value, str):
        return value
    found = [part.strip() for part in value.split(",") if part.strip()]
    # Nothing at all means no limit. A template that had nothing to put between its commas does not.
    if "," in value and not found:
        raise ValueError("there is nothing between its commas; name something, or leave it empty")
    if any(map(_OTHER_SEPARATOR.search, found)):
        raise ValueError(f"write commas between its parts, not spaces or semicolons: {value!r}")
    return found


def read_file(value: object) -> object:
    """What stands in the file where the value is ``@FILE``."""
    return read_secret(value) if isinstance(value, str) else value


def json_text(value: object) -> object:
    """The JSON text of a list, which is how a file has it."""
    if not isinstance(value, list):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:  # which is no ValueError
        raise ValueError(f"cannot be JSON: {error}") from None


def json(value: object) -> object:
    """What a JSON text says."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None


def node_name(value: str | None) -> str | None:
    """What a node may be called: it stands in keys, on lines and before a slash."""
    if value is not None and not _NODE_NAME.fullmatch(value):
        raise ValueError(
            "must be a name such as gateway-1, of at most 63 letters, digits and . _ -"
        )
    return value


def path(value: str) -> str:
    """A path that clients may connect to, with one slash before it and none behind it."""
    found = f"/{value.strip('/')}"
    if not _PATH.fullmatch(found):
        raise ValueError("must be a path such as /realtime, of letters, digits and . _ ~ -")
    if found in _HEALTH_PATHS:
        raise ValueError(f"{found} is a page for balancers")
    return found


def workers(value: int, info: ValidationInfo) -> int:
    """A number of workers for whose internal ports there is room; those were read before it."""
    first, public = info.data.get("internal_port"), info.data.get("port")
    if first:
        internal = range(first, first + value)
        if internal[-1] > LAST_PORT:
            raise ValueError(
                f"{value} workers need as many internal ports, and GATEWAY_INTERNAL_PORT "
                f"{first} leaves too few"
            )
        if public in internal:
            raise ValueError(
                f"GATEWAY_PORT {public} is among the workers' internal ports, "
                f"{first} to {internal[-1]}"
            )
    return value


def redis_url(value: SecretStr | None) -> SecretStr | None:
    """A URL that leads to Redis."""
    if value is not None:
        check_url(value.get_secret_value())
    return value


def cookie(value: str | None) -> str | None:
    """A name that a cookie may have."""
    if value is not None and not is_cookie_name(value):
        raise ValueError(
            "must be the name of a cookie, such as __Host-token, of letters, digits and - _ ."
        )
    return value


def origins(value: list[str], info: ValidationInfo) -> list[str]:
    """Origins and patterns of them; where a cookie may hold the token, those of known pages only."""
    AllowedOrigins(value)
    if info.data.get("jwt_cookie") is not None:
        if not value:
            raise ValueError(
                "GATEWAY_JWT_COOKIE needs a list: a browser sends its cookies along whatever page asks"
            )
        if strangers := of_strangers(value):
            raise ValueError(
                f"{strangers[0]!r} names no host: with GATEWAY_JWT_COOKIE, a page of anybody's could "
                "speak for the users who open it"
            )
        if open_to_read := in_clear_text(value):
            raise ValueError(
                f"{open_to_read[0]!r} is not https: with GATEWAY_JWT_COOKIE, whoever is on the way to such a page "
                "could speak for the users who open it"
            )
    return value


def hosts(value: list[str]) -> list[str]:
    """Names of hosts, as a browser sends them without the port."""
    for name in value:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name of a host: write console.example.org, without https:// and a port"
            )
    return [name.lower() for name in value]


def proxies(value: list[str]) -> list[str]:
    """Networks and addresses."""
    TrustedProxies(value)
    return value


def namespaces(value: dict[str, Any]) -> dict[str, Any]:
    """Namespaces and their rules."""
    for name, rules in value.items():
        if name in RESERVED:
            raise ValueError(
                f"namespace {name!r}: messages of the protocol have this name; choose another one"
            )
        if not isinstance(rules, Mapping):
            raise ValueError(f"namespace {name!r}: expected an object")  # noqa: TRY004 - pydantic's
        try:
            configured(name, rules)
        except InvalidNamespace as error:
            raise ValueError(str(error)) from None
    return value


def ring(value: SecretStr | None) -> SecretStr | None:
    """Keys for encrypted namespaces."""
    if value is not None:
        KeyRing.parse(value.get_secret_value())
    return value


def events(value: list[str]) -> list[str]:
    """Kinds of events."""
    for kind in value:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no event; there are {', '.join(KINDS)}")
    return value


def audit_log(value: str | None, info: ValidationInfo) -> str | None:
    """A place for the audit log. Workers say on standard output how far they have come."""
    if value is not None and not value.strip():
        raise ValueError("name a file, stdout or stderr, or leave it out")
    if value == "stdout" and info.data.get("workers", 1) > 1:
        raise ValueError("workers cannot write to stdout: name a file, or stderr")
    return value


def tracing(value: bool) -> bool:
    """Whether spans can be made."""
    try:
        there = not value or find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ImportError:
        there = False
    if not there:
        raise ValueError(
            "opentelemetry is not installed: run pip install '.[gateway,tracing]' in a checkout"
            ", or pip install 'FILE.whl[gateway,tracing]' with the wheel"
        )
    return value
