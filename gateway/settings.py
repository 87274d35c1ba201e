"""Every setting, declared once: an option of ``gateway serve``, an environment variable
``GATEWAY_<NAME>`` and a key of the TOML file named by ``--config`` or ``GATEWAY_CONFIG``, in this order.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.core.protocol import RESERVED
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace
from publisher.contract.keys import (
    DEFAULT_PREFIX,
    MAX_NODE_LEASE_SECONDS,
    MAX_PLACE_LEASE_SECONDS,
)
from publisher.contract.redis_url import check_url
from publisher.errors import InvalidNamespace

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]
_LAST_PORT: Final = 65_535
Port = Annotated[int, Field(ge=0, le=_LAST_PORT)]
Names = Annotated[list[str], NoDecode]

_SHORTEST_SECRET: Final = 32
"""Bytes an HS256 secret should have (RFC 7518 §3.2)."""

_NOT_SETTINGS: Final = {"GATEWAY_CONFIG"}


class UsageError(Exception):
    """Something the caller has to correct; the message says what."""


class Settings(BaseSettings):
    """The gateway's settings. A field's description is its documentation everywhere."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="forbid", frozen=True)

    host: str = Field("0.0.0.0", description="Address that clients connect to")  # noqa: S104 - a server's
    port: Port = Field(3001, description="Port that clients connect to; 0 takes a free one")
    internal_host: str = Field("127.0.0.1", description="Address of the internal port")
    internal_port: Port = Field(
        9300,
        description="Port of /healthz, /readyz and /metrics; further workers take the ports after it",
    )
    workers: PositiveInt = Field(
        1, description="Worker processes that share the port; each uses one core"
    )

    redis_url: SecretStr | None = Field(
        None,
        description="redis://, rediss:// or unix://; without it, development mode starts its own Redis",
    )
    redis_prefix: str = Field(DEFAULT_PREFIX, description="Prefix of all keys in Redis")
    redis_timeout_seconds: PositiveFloat = Field(
        3.0, description="Longest wait for an answer from Redis"
    )

    jwt_secret: SecretStr | None = Field(None, description="HMAC secret that signs the tokens")
    jwt_public_key: str | None = Field(
        None,
        description="Public key (PEM, or @FILE) that verifies tokens signed with RS, PS, ES or EdDSA",
    )
    jwt_algorithms: Names = Field(
        [], description="Algorithms to accept, if not all that fit the key; comma-separated"
    )
    jwt_user_claim: str = Field("sub", description="Claim that holds the user's id")
    jwt_require_expiry: bool = Field(True, description="Refuse tokens without exp")
    jwt_audience: str | None = Field(
        None, description="Audience that aud must contain; without it, aud is not checked"
    )
    jwt_issuer: str | None = Field(
        None, description="Issuer that iss must equal; without it, iss is not checked"
    )
    jwt_leeway_seconds: Seconds = Field(
        5.0, description="How far the clocks of login and gateway may differ"
    )

    allowed_origins: Names = Field(
        [],
        description="Origins of pages that may connect, comma-separated; empty allows every origin",
    )
    namespaces: Annotated[dict[str, Any], NoDecode] = Field(
        {},
        description="More namespaces, or other rules for the default ones, as JSON: "
        '{"lessons": {"owner": "grant", "retention": {"max_messages": 100, "max_age_seconds": 3600}}}',
    )

    max_connections_per_user: PositiveInt = Field(
        5, description="Connections that a user may hold, counted over all nodes"
    )
    max_connections: PositiveInt = Field(
        20_000, description="Connections that a node may hold; each worker is a node"
    )
    max_subscriptions: PositiveInt = Field(
        100, description="Subscriptions that a connection may hold"
    )
    max_message_bytes: PositiveInt = Field(
        16_384, description="Largest message that a client may send"
    )
    high_water_bytes: PositiveInt = Field(
        1_048_576,
        description="A client for which more than this waits unsent leaves live delivery and catches up from the log",
    )
    coalesce_seconds: float = Field(
        0.002,
        ge=0,
        le=0.05,
        description="When messages follow each other quickly, those after the first wait at most this long, so that they "
        "are sent together; 0: never",
    )
    stall_seconds: PositiveFloat = Field(
        30.0, description="A slow client that takes no bytes for this long is closed with 1013"
    )
    client_messages_per_second: PositiveFloat = Field(
        100.0, description="Messages that a client may send each second, for long; more is a flood"
    )
    client_message_burst: PositiveFloat = Field(
        1_000.0, description="Messages that a client may send at once"
    )
    compression_threshold_bytes: PositiveInt = Field(
        1024, description="Messages larger than this are compressed"
    )

    ping_interval_seconds: PositiveFloat = Field(
        30.0, description="Time between two pings to a client"
    )
    pong_timeout_seconds: PositiveFloat = Field(
        30.0, description="A client that does not answer a ping for this long is closed with 3008"
    )
    confirm_interval_seconds: PositiveFloat = Field(
        1.0, description="Shortest time between two confirming pings in a channel"
    )
    unsubscribe_linger_seconds: Seconds = Field(
        1.0,
        description="A node stays subscribed in Redis for this long after the last client has left a channel",
    )
    connection_lease_seconds: PositiveFloat = Field(
        180.0,
        le=MAX_PLACE_LEASE_SECONDS,
        description="A connection counts for its user for this long after its node last renewed it",
    )
    node_lease_seconds: PositiveFloat = Field(
        10.0,
        le=MAX_NODE_LEASE_SECONDS,
        description="A node that was not heard of for this long counts as dead",
    )
    drain_delay_seconds: Seconds = Field(
        5.0,
        description="At shutdown, time for the balancer to notice before the first connection is closed",
    )
    drain_seconds: Seconds = Field(
        10.0, description="At shutdown, time over which connections are closed"
    )

    development: bool = Field(
        False, description="Development mode: its own Redis, its own secret and a test page"
    )
    data_folder: Path = Field(
        Path(".gateway"), description="Folder in which development mode keeps its data"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged"
    )

    @field_validator("jwt_algorithms", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, value: int, info: ValidationInfo) -> int:
        first, public = info.data.get("internal_port"), info.data.get("port")
        if first:
            internal = range(first, first + value)
            if internal[-1] > _LAST_PORT:
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

    @field_validator("jwt_public_key")
    @classmethod
    def _read_key(cls, value: str | None) -> str | None:
        if value is None or not value.startswith("@"):
            return value
        try:
            return Path(value[1:]).read_text("utf-8")
        except OSError as error:
            raise ValueError(f"cannot read {value[1:]}: {error.strerror}") from None

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_url(value.get_secret_value())
        return value

    @field_validator("namespaces", mode="before")
    @classmethod
    def _read_namespaces(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from None

    @field_validator("namespaces")
    @classmethod
    def _check_namespaces(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, rules in value.items():
            if name in RESERVED:
                raise ValueError(
                    f"namespace {name!r}: messages of the protocol have this name; choose another one"
                )
            if not isinstance(rules, Mapping):
                raise ValueError(f"namespace {name!r}: expected an object")  # noqa: TRY004 - pydantic's
            try:
                Namespace.from_dict(name, rules)
            except InvalidNamespace as error:
                raise ValueError(str(error)) from None
        return value

    @property
    def all_namespaces(self) -> dict[str, Namespace]:
        """The default namespaces, and those configured."""
        configured = {
            name: Namespace.from_dict(name, rules) for name, rules in self.namespaces.items()
        }
        return {**DEFAULT_NAMESPACES, **configured}

    @property
    def may_choose_internal_port(self) -> bool:
        """Development mode takes another internal port rather than fail, unless one was asked for."""
        return self.development and "internal_port" not in self.model_fields_set

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the hook's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options before environment before file."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, os.environ.get("GATEWAY_CONFIG")),
        )


def advice(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """A sentence for each setting that works and may not be what was meant; never a value, which may be a secret."""
    found = _unknown(environment)
    secret = settings.jwt_secret
    if secret is not None and len(secret.get_secret_value().encode()) < _SHORTEST_SECRET:
        found.append(f"GATEWAY_JWT_SECRET is shorter than {_SHORTEST_SECRET} bytes")
    return found


def _unknown(environment: Mapping[str, str]) -> list[str]:
    known = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields} | _NOT_SETTINGS
    return [
        f"{name} is set, but there is no such setting"
        for name in sorted(environment)
        if name.startswith("GATEWAY_") and name not in known
    ]


# -- options of a command -----------------------------------------------------------------------

_PLACEHOLDERS: Final = {
    "SecretStr": "TEXT",
    "dict[str,Any]": "JSON",
    "float": "N",
    "int": "N",
    "list[str]": "LIST",
    "str": "TEXT",
    "Path": "FOLDER",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Make every setting an option of a command, for ``load_settings``."""
    group = parser.add_argument_group(
        "settings", "also GATEWAY_<NAME> in the environment, or a key in FILE"
    )
    group.add_argument(
        "--config", metavar="FILE", help="a TOML file with settings [GATEWAY_CONFIG]"
    )
    source: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
        Settings,
        root_parser=parser,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        add_argument_method=lambda _parser, *names, **details: group.add_argument(
            *names, **_described(names[0], details)
        ),
    )
    parser.set_defaults(settings_source=source)


def _described(option: str, details: dict[str, Any]) -> dict[str, Any]:
    """What argparse is told of an option, with placeholders that say what to give."""
    if "metavar" in details:
        unit = option.rpartition("-")[2]
        details["metavar"] = (
            unit.upper()
            if unit in {"seconds", "bytes", "url"}
            else _PLACEHOLDERS.get(details["metavar"], details["metavar"])
        )
    for nothing in ("null", "[]", "{}"):
        details["help"] = details["help"].removesuffix(f" (default: {nothing})")
    return details


def load_settings(options: argparse.Namespace) -> Settings:
    """Settings from options, environment and file.

    Raises:
        UsageError: one of them cannot be used.
    """
    if options.config:
        os.environ["GATEWAY_CONFIG"] = options.config
    config = os.environ.get("GATEWAY_CONFIG")
    if config and not Path(config).is_file():
        raise UsageError(f"there is no configuration file {config}")
    try:
        return CliApp.run(Settings, options, cli_settings_source=options.settings_source)
    except ValidationError as error:
        raise UsageError(_explain(error)) from None
    except ValueError as error:  # a file that is no TOML, a variable that is no JSON
        raise UsageError(f"the configuration cannot be read: {error}") from None


def _explain(error: ValidationError) -> str:
    """One line for each setting that is wrong; never its value, which may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{name}: there is no such setting")
        else:
            lines.append(f"{name} (GATEWAY_{name.upper()}): {_in_plain_words(problem)}")
    # Often the variable that was meant.
    lines += _unknown(os.environ)
    return "invalid settings\n  " + "\n  ".join(lines)


def _in_plain_words(problem: ErrorDetails) -> str:
    if problem["type"] in _MUST_BE:
        return f"must be {_MUST_BE[problem['type']]}"
    reason = problem["msg"].removeprefix("Value error, ")
    return reason.replace("Input should be", "must be", 1)


_MUST_BE: Final = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "an integer"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a JSON object",
}
"""Pydantic's types of errors."""
