"""Tokens as the platform's own login would issue them."""

from __future__ import annotations

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.credentials import make_verifier
from gateway.settings import Settings
from gateway.web.auth import TokenVerifier

SECRET = "a secret that only the tests know, 32+ bytes"
RSA_KEY = rsa.generate_private_key(65537, 2048)


def make_token(user: str, channels: list[str] | None = None, **claims: Any) -> str:
    """A token for ``user``, valid for an hour unless ``claims`` say otherwise."""
    given = {"sub": user, "exp": int(time.time()) + 3600, **claims}
    if channels is not None:
        given["channels"] = channels
    return jwt.encode(given, SECRET, "HS256")


def verifier(secret: str | None = SECRET, **settings: Any) -> TokenVerifier:
    """What a node with these settings verifies tokens with."""
    return make_verifier(Settings(jwt_secret=secret, **settings))


def public_pem(key: Any) -> str:
    """The public half of a private key, in PEM."""
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()
