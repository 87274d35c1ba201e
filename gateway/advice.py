"""Settings that work and may not be what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.settings import Settings

_SHORTEST_SECRET: Final = 32
"""Bytes an HS256 secret should have (RFC 7518 §3.2)."""

_NOT_SETTINGS: Final = {"GATEWAY_CONFIG"}


def advice(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """A sentence for each; never a value, which may be a secret."""
    known = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields} | _NOT_SETTINGS
    found = [
        f"{name} is set, but there is no such setting"
        for name in sorted(environment)
        if name.startswith("GATEWAY_") and name not in known
    ]
    secret = settings.jwt_secret
    if secret is not None and len(secret.get_secret_value().encode()) < _SHORTEST_SECRET:
        found.append(f"GATEWAY_JWT_SECRET is shorter than {_SHORTEST_SECRET} bytes")
    return found
