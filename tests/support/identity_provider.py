"""An identity provider on this machine: it publishes its keys and signs tokens, and fails as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.served import served

DISCOVERY = "/.well-known/openid-configuration"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """The RSA key of this name: making one takes a while."""
    return rsa.generate_private_key(65537, 2048)


def published(key: Any, **fields: Any) -> dict[str, Any]:
    """The public half of a key as a set has it (RFC 7517)."""
    match key:
        case rsa.RSAPrivateKey():
            found = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ed25519.Ed25519PrivateKey():
            found = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    given = {name: value for name, value in found.items() if name != "key_ops"}
    return {**given, "use": "sig", **fields}


@dataclass
class IdentityProvider:
    """``trouble`` is what comes in the place of an answer, one of ``TROUBLES``; ``asked`` are the paths of all requests.

    ``issuer`` is what its tokens and its discovery document say.
    """

    port: int = 0
    issuer: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def publish(self, *kids: str) -> None:
        """Publish the RSA keys of these names, and no others."""
        self.keys = [published(rsa_key(kid), kid=kid, alg="RS256") for kid in kids]

    def token(self, kid: str, user: str = "ann", **claims: Any) -> str:
        """A token that is signed with the RSA key of this name."""
        given = {
            "sub": user,
            "exp": int(time.time()) + 3600,
            "iss": self.issuer,
            "aud": "us",
            **claims,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(given, rsa_key(kid), "RS256", {"kid": kid})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[IdentityProvider]:
        """Serve until the block ends."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        async with served(app) as self.port:
            self.issuer = self.issuer or self.url
            yield self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.trouble is not None:
            return await TROUBLES[self.trouble](request)
        if request.path.endswith(DISCOVERY):
            document = {"issuer": self.issuer, "jwks_uri": self.jwks_url, **self.document}
            return web.json_response(document, headers=self.headers)
        if request.path == "/jwks":
            return web.json_response({"keys": self.keys}, headers=self.headers)
        return web.Response(status=404)


async def _hangs(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3_600)
    raise AssertionError


async def _fails(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _redirects(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=302,
        headers={"Location": f"http://localhost:{request.url.port}/elsewhere?key=secret"},
    )


async def _never_ends(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(16_384):
            await answer.write(b" " * 65_536)
    return answer


async def _is_garbage(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"\xff{]")


async def _has_no_keys(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


TROUBLES = {
    "hangs": _hangs,
    "fails": _fails,
    "redirects": _redirects,
    "never ends": _never_ends,
    "is garbage": _is_garbage,
    "has no keys": _has_no_keys,
}


def as_json(*keys: dict[str, Any]) -> bytes:
    """A set of keys."""
    return json.dumps({"keys": list(keys)}).encode()
