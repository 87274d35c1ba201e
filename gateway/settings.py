"""Every setting, declared once: an option of ``gateway serve`` (``options.py``), an environment variable
``GATEWAY_<NAME>`` and a key of the TOML file named by ``--config`` or ``GATEWAY_CONFIG``, in this order.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway import setting_checks
from gateway.unknown_variables import is_service_link
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace, Owner, configured
from publisher.contract.events import UNCONFIRMED
from publisher.contract.keys import (
    DEFAULT_PREFIX,
    MAX_NODE_LEASE_SECONDS,
    MAX_PLACE_LEASE_SECONDS,
)

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=setting_checks.LAST_PORT)]
Names = Annotated[list[str], NoDecode, BeforeValidator(setting_checks.parts)]
ReadsFile = BeforeValidator(setting_checks.read_file)


class UsageError(Exception):
    """Something the caller has to correct; the message says what."""


class Settings(BaseSettings):
    """The gateway's settings. A field's description is its documentation everywhere."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a server's
        description="Address that clients connect to; in development mode 127.0.0.1 unless it is set",
    )
    port: Port = Field(3001, description="Port that clients connect to; 0 takes a free one")
    tls_certificate: Path | None = Field(
        None,
        description="Certificate (PEM, with those that lead from it to the authority) for TLS on this port; read again when it changes",
    )
    tls_key: Path | None = Field(
        None, description="Its key (PEM, without a password); read again when it changes"
    )
    path: Annotated[str, AfterValidator(setting_checks.path)] = Field(
        "/",
        description="Path that clients connect to; a /ws behind it leads to the same place",
    )
    internal_host: str = Field("127.0.0.1", description="Address of the internal port")
    internal_port: Port = Field(
        9300,
        description="Port of /healthz, /readyz and /metrics; further workers take the ports after it",
    )
    internal_tls_certificate: Path | None = Field(
        None, description="The same as GATEWAY_TLS_CERTIFICATE, for the internal port"
    )
    internal_tls_key: Path | None = Field(None, description="Its key")
    internal_tls_client_ca: Path | None = Field(
        None,
        description="Authority (PEM) that must have signed the certificate of whoever connects to the internal port",
    )
    workers: Annotated[PositiveInt, AfterValidator(setting_checks.workers)] = Field(
        1, description="Worker processes that share the port; each uses one core"
    )
    node_name: Annotated[str | None, AfterValidator(setting_checks.node_name)] = Field(
        None,
        description="What the node is called in gateway top, in logs and events, before a part that is made at each start; by default as the host is",
    )

    api_host: str = Field("127.0.0.1", description="Address of the HTTP API for backends")
    api_port: Port | None = Field(
        None,
        description="Port of the HTTP API; without it there is none. The certificate of the internal port encrypts it too",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="Who may use the HTTP API, as a JSON object, or @FILE, which is read again when it changes",
    )

    console: bool = Field(
        False,
        description="Serve the console, and the HTTP API for it, at the internal port; on in development mode",
    )
    console_hosts: Annotated[Names, AfterValidator(setting_checks.hosts)] = Field(
        [], description="Names of hosts under which browsers find the console, comma-separated"
    )

    redis_url: Annotated[SecretStr | None, ReadsFile, AfterValidator(setting_checks.redis_url)] = (
        Field(
            None,
            description="redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://, or @FILE; without it, development mode starts its own Redis",
        )
    )
    redis_prefix: str = Field(DEFAULT_PREFIX, description="Prefix of all keys in Redis")
    redis_timeout_seconds: PositiveFloat = Field(
        3.0, description="Longest wait for an answer from Redis"
    )

    jwt_secret: Annotated[SecretStr | None, ReadsFile] = Field(
        None, description="HMAC secret that signs the tokens, 32 bytes or more, or @FILE"
    )
    jwt_public_key: Annotated[str | None, ReadsFile] = Field(
        None,
        description="Public key (PEM, or @FILE) that verifies tokens signed with RS, PS, ES or EdDSA",
    )
    jwt_jwks_url: str | None = Field(
        None,
        description="Where the issuer publishes its keys (JWKS); needs issuer and audience",
    )
    jwt_discovery: bool = Field(
        False,
        description="Find the keys through the issuer's OpenID discovery document; needs issuer and audience",
    )
    jwt_keys: Annotated[SecretStr | None, BeforeValidator(setting_checks.json_text), ReadsFile] = (
        Field(
            None,
            description="Several keys, each with rules of its own, as a JSON list, or @FILE",
        )
    )
    jwt_algorithms: Names = Field(
        [],
        description="Algorithms to accept, if not all that fit the keys; comma-separated",
    )
    jwt_user_claim: str = Field("sub", description="Claim that holds the user's id")
    jwt_require_expiry: bool = Field(True, description="Refuse tokens without exp")
    jwt_audience: str | None = Field(
        None, description="Audience that aud must contain; without it, tokens with aud are refused"
    )
    jwt_issuer: str | None = Field(
        None, description="Issuer that iss must equal; without it, iss is not checked"
    )
    jwt_leeway_seconds: float = Field(
        5.0, ge=0, le=300, description="How far the clocks of login and gateway may differ"
    )
    jwt_max_lifetime_seconds: PositiveFloat | None = Field(
        None,
        description="Refuse tokens that are valid for longer than this, and those without exp or iat",
    )
    jwt_channel_patterns: bool = Field(
        True, description="Let namespace/* in the claim channels open all channels of a namespace"
    )
    jwt_cookie: Annotated[str | None, AfterValidator(setting_checks.cookie)] = Field(
        None,
        description="Cookie that may hold the token; it counts only for pages of the allowed origins",
    )
    token_expiring_seconds: Seconds = Field(
        60.0, description="A client is told this long before its token ends; 0: never"
    )

    allowed_origins: Annotated[Names, AfterValidator(setting_checks.origins)] = Field(
        [],
        validate_default=True,
        description="Origins of pages that may connect, comma-separated, such as https://*.example.org; empty allows every origin",
    )
    trusted_proxies: Annotated[Names, AfterValidator(setting_checks.proxies)] = Field(
        [],
        description="Networks whose X-Forwarded-For and Forwarded are believed, comma-separated, such as 10.0.0.0/8",
    )
    proxy_protocol: bool = Field(
        False,
        description="Trusted proxies begin each connection with the PROXY protocol (version 1 or 2)",
    )
    namespaces: Annotated[
        dict[str, Any],
        NoDecode,
        BeforeValidator(setting_checks.json),
        AfterValidator(setting_checks.namespaces),
    ] = Field(
        {},
        description="More namespaces, or other rules for the default ones, as JSON: "
        '{"lessons": {"owner": "grant", "retention": {"max_messages": 100, "max_age_seconds": 3600}}}',
    )
    encryption_keys: Annotated[SecretStr | None, ReadsFile, AfterValidator(setting_checks.ring)] = (
        Field(
            None,
            description="Keys that decrypt messages of encrypted namespaces, <id>:<base64 of 32 bytes>, comma-separated, or @FILE",
        )
    )

    max_connections_per_user: PositiveInt = Field(
        5,
        description="Connections that a user may hold, counted over all nodes. With it grow the bounds, on a node, of how many it may begin in ten seconds and of its polls and POSTs",
    )
    connection_limit_policy: Literal["refuse", "replace_oldest"] = Field(
        "refuse",
        description="What becomes of one connection more: it is refused, or the user's oldest one ends",
    )
    replacements_per_minute: PositiveInt = Field(
        10,
        description="Oldest connections of a user that end in a minute; then newer ones are refused",
    )
    max_connections: PositiveInt = Field(
        20_000, description="Connections that a node may hold; each worker is a node"
    )
    max_unauthenticated: PositiveInt | None = Field(
        None,
        description="Connections that have shown no valid token yet and that a node may hold; by default half of the files it may open, and at most 10,000",
    )
    unauthenticated_per_address: PositiveInt = Field(
        5_000,
        description="The same from one address, at each node: an IPv4 address, or an IPv6 network of 64 bits",
    )
    failed_authentications_per_minute: PositiveInt = Field(
        3_000,
        description="Handshakes from one address that may show a node no token, an invalid one or one of an unknown key in a minute; further such ones get 429 until it is over, and handshakes of TLS from an address that wastes as many wait for their turn",
    )
    handshakes_per_second: PositiveFloat = Field(
        2_000.0,
        description="Handshakes with a valid token that a node takes up in a second, and those of TLS that it begins; further ones wait for their turn, up to 15 s",
    )
    max_subscriptions: PositiveInt = Field(
        100, description="Subscriptions that a connection may hold"
    )
    max_message_bytes: PositiveInt = Field(
        16_384, description="Largest message that a client may send"
    )
    high_water_bytes: PositiveInt = Field(
        1_048_576,
        description="A client for which more than this waits unsent leaves live delivery and catches up from the log. What it says is not read meanwhile; by POST only acks are taken. Below about 320 KiB (327,680) a replay alone can exceed it",
    )
    coalesce_seconds: float = Field(
        0.002,
        ge=0,
        le=0.05,
        description="While at least eight messages come in this time, they wait at most this long for each other, so that "
        "they are sent together; 0: never",
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
    user_messages_per_second: PositiveFloat | None = Field(
        None,
        description="The same of all connections that a user has on a node, together; no less than for one. By default half of what as many as the user may hold would have, 250",
    )
    user_message_burst: PositiveFloat | None = Field(
        None, description="Messages that these may send at once; by default likewise, 2,500"
    )
    max_channel_members: PositiveInt | None = Field(
        None,
        description="Connections that may be subscribed to a channel on a node; by default as many as it may hold",
    )
    compression: bool = Field(True, description="Offer permessage-deflate to clients")
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
        1.0,
        description="Shortest time between two confirming pings in a channel; three times as long where all is confirmed",
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

    events: Annotated[Names, AfterValidator(setting_checks.events)] = Field(
        [],
        description="Events that backends are told, comma-separated: connected, disconnected, subscribed, unsubscribed, confirmed, unconfirmed, lost; by default none",
    )
    unconfirmed_after_seconds: PositiveFloat = Field(
        60.0,
        le=setting_checks.LONGEST_WAIT_SECONDS,
        description="A message in a user's own channel that the user has not confirmed for this long is told as unconfirmed",
    )
    events_max_length: PositiveInt = Field(
        100_000,
        description="Events that are kept in Redis for backends that have not read them yet",
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
    log_format: Literal["logfmt", "json"] = Field(
        "logfmt", description="What a line of the log is: logfmt (key=value) or json"
    )
    audit_log: Annotated[str | None, AfterValidator(setting_checks.audit_log)] = Field(
        None,
        description="Where to write who was let in, refused and ended: a file, stdout or stderr; without it nowhere",
    )

    tracing: Annotated[bool, AfterValidator(setting_checks.tracing)] = Field(
        False,
        description="Make spans of messages that belong to a trace; OTEL_EXPORTER_OTLP_ENDPOINT says where they are sent",
    )

    @property
    def base_path(self) -> str:
        """What stands before every path on the clients' port; empty for the root."""
        return self.path.rstrip("/")

    @property
    def all_namespaces(self) -> dict[str, Namespace]:
        """The default namespaces, and those configured."""
        own = {name: configured(name, rules) for name, rules in self.namespaces.items()}
        every = {**DEFAULT_NAMESPACES, **own}
        if UNCONFIRMED not in self.events:
            return every
        return {
            name: replace(each, unconfirmed=each.owner is Owner.USER and each.retention is not None)
            for name, each in every.items()
        }

    @property
    def replacements(self) -> int | None:
        """How many connections of a user give way to newer ones in a minute; ``None`` where none does."""
        replaces = self.connection_limit_policy == "replace_oldest"
        return self.replacements_per_minute if replaces else None

    @property
    def has_keys(self) -> bool:
        """Whether there is anything to verify tokens with."""
        given = self.jwt_secret, self.jwt_public_key, self.jwt_jwks_url, self.jwt_keys
        return self.jwt_discovery or any(given)

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
        assert isinstance(env_settings, EnvSettingsSource)
        # Templates write an empty variable for what is not given: ${X:-}, {{ default "" }}.
        env_settings.env_vars = {
            name: value
            for name, value in env_settings.env_vars.items()
            if value and not is_service_link(name, value)
        }
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, os.environ.get("GATEWAY_CONFIG") or None),
        )


SECRETS: Final = tuple(
    name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)
)
"""The settings that nobody else may know. Each takes an @FILE."""
