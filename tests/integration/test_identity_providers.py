"""Tokens in the shape of those of well-known identity providers, with the settings that docs/configuration.md gives for each."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.identity_provider import IdentityProvider, published, rsa_key
from tests.support.nodes import Node


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """Publishes the key ``a``."""
    provider = IdentityProvider()
    provider.publish("a")
    async with provider.running():
        yield provider


def signed(claims: dict[str, Any], kid: str = "a", **header: Any) -> str:
    now = int(time.time())
    given = {"iat": now, "exp": now + 3600, **claims}
    return jwt.encode(given, rsa_key(kid), "RS256", {"kid": kid, **header})


async def lets_in(node: Node, token: str, user: str) -> None:
    async with connected(node.url, token):
        (connection,) = node.gateway.hub.connections.values()
        assert connection.user == user


async def refuses(node: Node, token: str) -> None:
    async with opened(node.url, token) as client:
        await client.expect(type="error", code="token_invalid")


async def test_auth0(start_node: StartNode, idp: IdentityProvider) -> None:
    issuer, api = "https://tenant.eu.auth0.com/", "https://realtime.example.org"
    node = await start_node(
        jwt_secret=None, jwt_jwks_url=idp.jwks_url, jwt_issuer=issuer, jwt_audience=api
    )
    claims = {
        "iss": issuer,
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": [api, "https://tenant.eu.auth0.com/userinfo"],
        "scope": "openid profile",
        "azp": "my_client_id",
        "jti": "4Dd4kTZmyyWUcl1kVqVE3r",
    }
    await lets_in(node, signed(claims, typ="at+jwt"), claims["sub"])
    await lets_in(node, signed(claims), claims["sub"])
    # The slash is part of its name, and a tenant shares nothing with another one.
    await refuses(node, signed({**claims, "iss": issuer.rstrip("/")}))
    await refuses(node, signed({**claims, "aud": "https://other.example.org"}))


async def test_keycloak(start_node: StartNode, idp: IdentityProvider) -> None:
    idp.keys = [
        published(rsa_key("enc"), kid="enc", use="enc", alg="RSA-OAEP"),
        published(rsa_key("b"), kid="b", alg="RS256"),
        published(rsa_key("a"), kid="a", alg="RS256"),
    ]
    node = await start_node(
        jwt_secret=None,
        jwt_issuer=idp.issuer,
        jwt_discovery=True,
        jwt_audience="realtime",
    )
    claims = {
        "iss": idp.issuer,
        "sub": "f4c1e3a1-7c2e-4d9b-8a5c-2d9d0a1b3c4e",
        "aud": ["realtime", "account"],  # the first is an audience mapper's
        "azp": "web",
        "typ": "Bearer",
        "jti": "onrtac:97fd1de6-3ba6-44b4-b5c1-1d0c1f3f1ad4",
        "realm_access": {"roles": ["offline_access"]},
    }
    for kid in ("a", "b"):
        await lets_in(node, signed(claims, kid), claims["sub"])
    # All clients of a realm have this one.
    await refuses(node, signed({**claims, "aud": "account", "azp": "another"}))
    async with opened(node.url, signed(claims, "enc")) as client:
        await client.expect(type="error", code="token_key_unknown")


async def test_cognito_access_tokens_have_no_audience(
    start_node: StartNode, idp: IdentityProvider
) -> None:
    issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab12Cd34E"
    keys = [{"jwks_url": idp.jwks_url, "issuer": issuer, "audience": None}]
    node = await start_node(jwt_secret=None, jwt_keys=json.dumps(keys))
    claims = {
        "iss": issuer,
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "client_id": "5m0h5s1v6ob1mjd9fnb2sg2mj2",
        "token_use": "access",
        "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeef",
        "username": "ann",
    }
    await lets_in(node, signed(claims), claims["sub"])
    await refuses(node, signed({**claims, "aud": "5m0h5s1v6ob1mjd9fnb2sg2mj2"}))


async def test_cognito_id_tokens_are_for_the_app_client(
    start_node: StartNode, idp: IdentityProvider
) -> None:
    issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab12Cd34E"
    app = "5m0h5s1v6ob1mjd9fnb2sg2mj2"
    node = await start_node(
        jwt_secret=None, jwt_jwks_url=idp.jwks_url, jwt_issuer=issuer, jwt_audience=app
    )
    claims = {"iss": issuer, "sub": "aaaaaaaa-bbbb", "aud": app, "token_use": "id", "jti": "j"}
    await lets_in(node, signed(claims), claims["sub"])
    await refuses(node, signed({**claims, "aud": "another app"}))


async def test_firebase(start_node: StartNode, idp: IdentityProvider) -> None:
    elsewhere = IdentityProvider()
    elsewhere.publish("a")
    async with elsewhere.running():
        # The keys are on another host than the document.
        idp.issuer = f"{idp.url}/my-project"
        idp.document = {"jwks_uri": elsewhere.jwks_url}
        elsewhere.headers = {"Cache-Control": "public, max-age=19204, must-revalidate"}
        node = await start_node(
            jwt_secret=None, jwt_discovery=True, jwt_issuer=idp.issuer, jwt_audience="my-project"
        )
        claims = {
            "iss": idp.issuer,
            "aud": "my-project",
            "auth_time": int(time.time()),
            "user_id": "Xk3dB1cW9aQ2",
            "sub": "Xk3dB1cW9aQ2",
            "firebase": {"identities": {}, "sign_in_provider": "password"},
        }
        await lets_in(node, signed(claims), claims["sub"])
        # All projects of all customers are signed with these keys.
        other = f"{idp.url}/other-project"
        await refuses(node, signed({**claims, "iss": other, "aud": "other-project"}))


TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"


def of_entra(idp: IdentityProvider, kid: str) -> dict[str, Any]:
    """Without ``alg``, and with an ``issuer`` of its own."""
    issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
    return published(rsa_key(kid), kid=kid, x5t=kid, x5c=["MIIC"], issuer=issuer)


async def test_entra_id(start_node: StartNode, idp: IdentityProvider) -> None:
    idp.keys = [of_entra(idp, "a"), of_entra(idp, "b")]
    idp.issuer = f"{idp.url}/{TENANT}/v2.0"
    app = "6731de76-14a6-49ae-97bc-6eba6914391e"
    node = await start_node(
        jwt_secret=None,
        jwt_discovery=True,
        jwt_issuer=idp.issuer,
        jwt_audience=app,
        jwt_user_claim="oid",
    )
    claims = {
        "ver": "2.0",
        "iss": idp.issuer,
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "aud": app,
        "oid": "00000000-0000-0000-66f3-3332eca7ea81",
        "tid": TENANT,
        "uti": "fqiBqXLPj0eQa82S-IYFAA",
    }
    for kid in ("a", "b"):
        await lets_in(node, signed(claims, kid, x5t=kid), claims["oid"])
    await refuses(node, signed({**claims, "iss": f"{idp.url}/other-tenant/v2.0"}))


async def test_entra_id_in_version_1(start_node: StartNode, idp: IdentityProvider) -> None:
    idp.keys = [of_entra(idp, "a")]
    issuer, api = f"https://sts.windows.net/{TENANT}/", "api://6731de76-14a6-49ae-97bc-6eba6914391e"
    node = await start_node(
        jwt_secret=None,
        jwt_jwks_url=idp.jwks_url,
        jwt_issuer=issuer,
        jwt_audience=api,
        jwt_user_claim="oid",
    )
    claims = {"ver": "1.0", "iss": issuer, "aud": api, "sub": "AAA", "oid": "00000000-0000"}
    await lets_in(node, signed(claims, x5t="a"), claims["oid"])
