"""A value that each setting may have, for whoever has given one that it may not."""

from __future__ import annotations

from shlex import quote
from typing import Final

from gateway.settings import Settings

_WITHOUT_DEFAULT: Final = {
    "tls_certificate": "/etc/gateway/tls.crt",
    "tls_key": "/etc/gateway/tls.key",
    "internal_tls_certificate": "/etc/gateway/internal.crt",
    "internal_tls_key": "/etc/gateway/internal.key",
    "internal_tls_client_ca": "/etc/gateway/ca.crt",
    "node_name": "gateway-1",
    "api_port": "9400",
    "api_keys": "@/etc/gateway/api-keys.json",
    "console_hosts": "console.example.com",
    "redis_url": "redis://redis.example.com:6379/0",
    "jwt_secret": "@/etc/gateway/jwt-secret",
    "jwt_public_key": "@/etc/gateway/jwt.pem",
    "jwt_jwks_url": "https://login.example.com/.well-known/jwks.json",
    "jwt_keys": "@/etc/gateway/jwt-keys.json",
    "jwt_algorithms": "RS256,ES256",
    "jwt_audience": "realtime",
    "jwt_issuer": "https://login.example.com/",
    "jwt_max_lifetime_seconds": "86400",
    "jwt_cookie": "__Host-token",
    "allowed_origins": "https://app.example.com",
    "trusted_proxies": "10.0.0.0/8",
    "namespaces": '{"rooms": {"owner": "grant"}}',
    "encryption_keys": "@/etc/gateway/encryption-keys",
    "max_unauthenticated": "1000",
    "user_messages_per_second": "500",
    "user_message_burst": "5000",
    "max_channel_members": "10000",
    "events": "connected,disconnected",
    "audit_log": "stdout",
}


def example(name: str) -> str:
    """As a shell takes it, a variable of the environment with such a value."""
    return f"GATEWAY_{name.upper()}={quote(example_value(name))}"


def example_value(name: str) -> str:
    """The default, or what a deployment might have where there is none."""
    value = _WITHOUT_DEFAULT.get(name)
    if value is None:
        default = Settings.model_fields[name].default
        value = str(default).lower() if isinstance(default, bool) else f"{default}"
    return value.removesuffix(".0")
