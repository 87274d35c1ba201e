"""What ``gateway check`` looks at before a deploy does."""

from __future__ import annotations

import os
from typing import Any

from gateway.app import make_connector, make_verifier
from gateway.settings import Settings, advice
from gateway.web.auth import BadKey
from publisher.errors import Unavailable
from publisher.transport.pipeline import Pipeline


async def check(settings: Settings) -> dict[str, Any]:
    """``{"ok": bool, "errors": [...], "warnings": [...], "namespaces": {...}, "redis": {...}}``."""
    errors: list[str] = []
    warnings = advice(settings, os.environ)
    try:
        make_verifier(settings)
    except BadKey as error:
        errors.append(str(error))
    redis: dict[str, Any] = {}
    if settings.redis_url is None:
        errors.append("GATEWAY_REDIS_URL is not set")
    else:
        redis = await _look_at_redis(settings, errors, warnings)
    return {
        "ok": not errors,
        "errors": errors,
        "warnings": warnings,
        "namespaces": {name: each.to_dict() for name, each in settings.all_namespaces.items()},
        "redis": redis,
    }


async def _look_at_redis(
    settings: Settings, errors: list[str], warnings: list[str]
) -> dict[str, Any]:
    pipeline = Pipeline(make_connector(settings), None, settings.redis_timeout_seconds)
    try:
        info, policy, append = await pipeline.round_trip(
            [
                ("INFO", "server"),
                ("CONFIG", "GET", "maxmemory-policy"),
                ("CONFIG", "GET", "appendonly"),
            ]
        )
    except Unavailable as error:
        errors.append(f"Redis: {error.reason}")
        return {"reachable": False}
    finally:
        await pipeline.aclose()
    # CONFIG is often forbidden on hosted servers; then nothing is known, and nothing said.
    if isinstance(policy, list) and policy[1:] not in ([], [b"noeviction"]):
        warnings.append("Redis may evict messages: set maxmemory-policy to noeviction")
    if isinstance(append, list) and append[1:] == [b"no"]:
        warnings.append(
            "Redis keeps no append-only file: a restart loses the queue (appendonly yes)"
        )
    found: dict[str, Any] = {"reachable": True}
    if isinstance(info, bytes):
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        found["version"] = fields.get("valkey_version") or fields.get("redis_version")
    return found
