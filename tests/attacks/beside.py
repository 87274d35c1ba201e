"""What stands beside a node under attack: certificates of its own, an identity provider that fails."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.api import keys_in
from tests.support.certificates import Authority, trusting
from tests.support.identity_provider import IdentityProvider
from tests.support.redis_server import free_port


@dataclass(frozen=True)
class Beside:
    """``settings`` of the node that follow from it; ``trust`` is what clients need for its certificate; ``api_url`` is where its HTTP API is."""

    settings: dict[str, Any] = field(default_factory=dict)
    trust: ssl.SSLContext | None = None
    provider: IdentityProvider | None = None
    api_url: str = ""


@contextlib.asynccontextmanager
async def nothing(_folder: Path) -> AsyncIterator[Beside]:
    """Nothing more."""
    yield Beside()


@contextlib.asynccontextmanager
async def certificates(folder: Path) -> AsyncIterator[Beside]:
    """The node serves TLS."""
    authority = Authority(folder)
    own = authority.sign("localhost", addresses=("127.0.0.1",))
    settings = {"tls_certificate": own.certificate, "tls_key": own.key}
    yield Beside(settings, trusting(authority))


@contextlib.asynccontextmanager
async def identity_provider(_folder: Path) -> AsyncIterator[Beside]:
    """The node fetches keys, beside the secret of the bystander's tokens."""
    provider = IdentityProvider()
    provider.publish("a")
    async with provider.running():
        keys = [{"jwks_url": provider.jwks_url, "issuer": provider.issuer, "audience": "us"}]
        yield Beside({"jwt_keys": json.dumps(keys)}, provider=provider)


@contextlib.asynccontextmanager
async def http_api(folder: Path) -> AsyncIterator[Beside]:
    """The node serves the HTTP API, and goes on serving it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    yield Beside({"api_port": port, "api_keys": f"@{keys_in(folder)}"}, api_url=url)
