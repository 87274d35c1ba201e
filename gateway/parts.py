"""Parts of a node that follow from the settings alone."""

from __future__ import annotations

from typing import Final

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from gateway.settings import Settings
from gateway.web.auth import TokenVerifier, load_key

# Made once: left to itself, the library looks its version up on disk for every connection.
_DRIVER_INFO: Final = DriverInfo()


def make_verifier(settings: Settings) -> TokenVerifier:
    """The verifier that the settings describe.

    Raises:
        gateway.web.auth.BadKey: the key or the algorithms cannot be used.
    """
    secret = settings.jwt_secret
    return TokenVerifier(
        load_key(secret.get_secret_value() if secret else None, settings.jwt_public_key),
        algorithms=settings.jwt_algorithms,
        user_claim=settings.jwt_user_claim,
        require_expiry=settings.jwt_require_expiry,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway=settings.jwt_leeway_seconds,
    )


def make_pool(settings: Settings) -> ConnectionPool:
    """Connections to Redis; retrying is the callers' business."""
    assert settings.redis_url is not None
    return ConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        driver_info=_DRIVER_INFO,
    )
