"""What the settings say of keys and of Redis: the verifier of tokens, and how to connect."""

from __future__ import annotations

import time
from dataclasses import replace

from pydantic import SecretStr

from gateway.node.ports import Clock
from gateway.settings import Settings
from gateway.web.auth import TokenRules, TokenVerifier
from gateway.web.decoding import Demands
from gateway.web.key_entries import by_settings, entries, in_list
from gateway.web.key_set import KeySet
from publisher.transport.topology import Topology, asyncio_topology


def make_verifier(
    settings: Settings, clock: Clock = time.monotonic, wall_clock: Clock = time.time
) -> TokenVerifier:
    """The verifier that the settings describe.

    Args:
        settings: with a key at least.
        clock: monotonic, in seconds.
        wall_clock: seconds since 1970.

    Raises:
        gateway.web.keys.BadKey: a key or its algorithms cannot be used.
    """
    leeway, listed = settings.jwt_leeway_seconds, _plain(settings.jwt_keys)
    demands = Demands(require_expiry=settings.jwt_require_expiry, leeway=leeway)
    own = by_settings(
        {"secret": _plain(settings.jwt_secret), "public_key": settings.jwt_public_key},
        replace(demands, issuer=settings.jwt_issuer, audience=settings.jwt_audience),
    )
    keys = entries(
        own,
        settings.jwt_algorithms,
        in_list(listed, demands) if listed is not None else [],
        weak=settings.development,
    )
    rules = TokenRules(
        settings.jwt_user_claim,
        leeway,
        settings.jwt_max_lifetime_seconds,
        settings.jwt_channel_patterns,
    )
    return TokenVerifier(KeySet(keys, wall_clock), rules, clock, wall_clock)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def make_topology(settings: Settings) -> Topology:
    """Which Redis it is; trying again is the callers' business.

    Raises:
        publisher.errors.InvalidURL: the URL cannot be used.
    """
    assert settings.redis_url is not None
    return asyncio_topology(settings.redis_url.get_secret_value())
