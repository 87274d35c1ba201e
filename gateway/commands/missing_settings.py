"""The settings without which there is no node: development mode brings them along, and otherwise they must be given."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from pydantic import SecretStr

from gateway.settings import Settings, UsageError

log = logging.getLogger("gateway")


async def complete(settings: Settings, stack: contextlib.AsyncExitStack) -> Settings:
    """Add what development mode brings along.

    Args:
        settings: as they were given.
        stack: ends what is started for them.

    Raises:
        UsageError: a setting is missing, or development mode cannot start its Redis.
    """
    found: dict[str, Any] = {}
    if settings.development:
        # Nobody balances a developer's load, and nobody else is to reach it.
        usual: dict[str, Any] = {
            "drain_delay_seconds": 0.0,
            "host": "127.0.0.1",
            "console": True,
        }
        found |= {name: usual[name] for name in usual.keys() - settings.model_fields_set}
        if settings.api_keys is None:
            from gateway.development.login import development_api_keys  # noqa: PLC0415 - development only

            found["api_keys"] = SecretStr(development_api_keys(settings.data_folder))
        if settings.redis_url is not None:
            log.info(
                "redis_given advice=%r",
                "GATEWAY_REDIS_URL is used; unset it to have a Redis of development mode's own",
            )
    if not settings.development and (missing := _missing(settings)):
        raise UsageError(
            f"set {' and '.join(missing)} (or use --development, which brings its own)"
        )
    if not settings.has_keys:
        from gateway.development.login import development_secret  # noqa: PLC0415 - development only

        found["jwt_secret"] = SecretStr(development_secret(settings.data_folder, create=True) or "")
    if settings.redis_url is None:
        from gateway.development.redis_server import EmbeddedRedis, EmbeddedRedisError  # noqa: PLC0415

        server = EmbeddedRedis(settings.data_folder)
        try:
            found["redis_url"] = SecretStr(await server.start())
        except EmbeddedRedisError as error:
            raise UsageError(str(error)) from None
        stack.push_async_callback(server.stop)
    return settings.model_copy(update=found)


def _missing(settings: Settings) -> list[str]:
    missing = []
    if settings.redis_url is None:
        missing.append("GATEWAY_REDIS_URL")
    if not settings.has_keys:
        missing.append(
            "GATEWAY_JWT_SECRET (or GATEWAY_JWT_PUBLIC_KEY, _JWKS_URL, _DISCOVERY or _KEYS)"
        )
    return missing
