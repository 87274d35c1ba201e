"""What the settings say of keys, of certificates and of Redis: the verifier of tokens, TLS, what decrypts, and how to connect."""

from __future__ import annotations

import random
import time
from pathlib import Path

from pydantic import SecretStr

from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.settings import Settings, UsageError
from gateway.web.auth import TokenRules, TokenVerifier
from gateway.web.decoding import Demands
from gateway.web.key_entries import Described, by_settings, entries, in_list
from gateway.web.key_fetching import fetch
from gateway.web.key_places import DiscoveredPlace, FixedPlace, Place
from gateway.web.key_set import KeySet
from gateway.web.keys import Key
from gateway.web.remote_keys import RemoteKeys
from gateway.web.tls import BadCertificate, Files
from publisher.contract.sealing import KeyRing
from publisher.transport.topology import Topology, asyncio_topology


def make_verifier(
    settings: Settings,
    stats: Stats | None = None,
    clock: Clock = time.monotonic,
    wall_clock: Clock = time.time,
) -> TokenVerifier:
    """The verifier that the settings describe.

    Args:
        settings: with a key at least.
        stats: counts how often issuers were asked for their keys.
        clock: monotonic, in seconds.
        wall_clock: seconds since 1970.

    Raises:
        gateway.web.keys.BadKey: a key or its algorithms cannot be used.
    """
    leeway, listed = settings.jwt_leeway_seconds, _plain(settings.jwt_keys)
    demands = Demands(
        settings.jwt_audience, settings.jwt_issuer, settings.jwt_require_expiry, leeway
    )
    counted = stats or Stats()

    def published(described: Described, key: Key) -> RemoteKeys:
        place: Place = FixedPlace(described.value)
        if described.source == "discovery":
            place = DiscoveredPlace(described.value, fetch, clock)
        of_set = described.demands
        return RemoteKeys(place, fetch, key.algorithms, of_set, counted, clock, random.random)

    keys = entries(
        by_settings(_given(settings), demands),
        settings.jwt_algorithms,
        in_list(listed, demands) if listed else [],
        published,
        weak=settings.development,
    )
    rules = TokenRules(
        settings.jwt_user_claim,
        leeway,
        settings.jwt_max_lifetime_seconds,
        settings.jwt_channel_patterns,
    )
    return TokenVerifier(KeySet(keys, wall_clock), rules, clock, wall_clock)


def _given(settings: Settings) -> dict[str, str | None]:
    """What has a setting of its own, by source. An empty text is none."""
    return {
        "secret": _plain(settings.jwt_secret) or None,
        "public_key": settings.jwt_public_key or None,
        "jwks_url": settings.jwt_jwks_url or None,
        "discovery": settings.jwt_issuer or "" if settings.jwt_discovery else None,
    }


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def tls_files(settings: Settings) -> Files | None:
    """The files for TLS on the clients' port; ``None`` without TLS.

    Raises:
        gateway.web.tls.BadCertificate: the settings do not go together.
    """
    files = _files("", settings.tls_certificate, settings.tls_key, None)
    if files is not None and settings.proxy_protocol:
        raise BadCertificate(
            "GATEWAY_TLS_CERTIFICATE and GATEWAY_PROXY_PROTOCOL do not go together: "
            "the header of the PROXY protocol comes before TLS; end TLS at the proxy"
        )
    return files


def internal_tls_files(settings: Settings) -> Files | None:
    """The same for the internal port."""
    return _files(
        "INTERNAL_",
        settings.internal_tls_certificate,
        settings.internal_tls_key,
        settings.internal_tls_client_ca,
    )


def _files(
    which: str, certificate: Path | None, key: Path | None, client_ca: Path | None
) -> Files | None:
    if certificate is not None and key is not None:
        return Files(certificate, key, client_ca)
    if certificate is not None or key is not None:
        raise BadCertificate(
            f"GATEWAY_{which}TLS_CERTIFICATE and GATEWAY_{which}TLS_KEY go together: set both"
        )
    if client_ca is not None:
        raise BadCertificate(
            f"GATEWAY_{which}TLS_CLIENT_CA goes with GATEWAY_{which}TLS_CERTIFICATE"
        )
    return None


def make_ring(settings: Settings) -> KeyRing | None:
    """The keys for encrypted namespaces, if there are any.

    Raises:
        UsageError: a namespace is encrypted, and there are none.
    """
    keys = settings.encryption_keys
    if keys is not None:
        return KeyRing.parse(keys.get_secret_value())
    for name, each in settings.all_namespaces.items():
        if each.encrypted:
            raise UsageError(f"namespace {name!r} is encrypted: set GATEWAY_ENCRYPTION_KEYS")
    return None


def make_topology(settings: Settings) -> Topology:
    """Which Redis it is; trying again is the callers' business.

    Raises:
        publisher.errors.InvalidURL: the URL cannot be used.
    """
    assert settings.redis_url is not None
    return asyncio_topology(settings.redis_url.get_secret_value())
