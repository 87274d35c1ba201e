"""What the settings say of keys and of Redis: the verifier of tokens, and how to connect."""

from __future__ import annotations

import time

from gateway.settings import Settings
from gateway.web.auth import TokenVerifier
from gateway.web.keys import load_key
from publisher.transport.topology import Topology, asyncio_topology


def make_verifier(settings: Settings) -> TokenVerifier:
    """The verifier that the settings describe.

    Raises:
        gateway.web.keys.BadKey: the key or the algorithms cannot be used.
    """
    secret = settings.jwt_secret
    return TokenVerifier(
        load_key(
            secret.get_secret_value() if secret else None,
            settings.jwt_public_key,
            weak=settings.development,
        ),
        algorithms=settings.jwt_algorithms,
        user_claim=settings.jwt_user_claim,
        require_expiry=settings.jwt_require_expiry,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway=settings.jwt_leeway_seconds,
        clock=time.monotonic,
    )


def make_topology(settings: Settings) -> Topology:
    """Which Redis it is; trying again is the callers' business.

    Raises:
        publisher.errors.InvalidURL: the URL cannot be used.
    """
    assert settings.redis_url is not None
    return asyncio_topology(settings.redis_url.get_secret_value())
