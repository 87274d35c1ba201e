"""The secrets of development mode: for tokens and for the HTTP API; and tokens for trying the gateway out."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Final

import jwt

from gateway.settings import Settings, UsageError

_SECRET_FILE: Final = "jwt-secret"  # noqa: S105 - a file's name
_API_KEY_FILE: Final = "api-key"


def make_token(
    secret: str,
    user: str,
    channels: list[str],
    lifetime: int,
    settings: Settings,
) -> str:
    """A token the gateway with these settings accepts, for ``lifetime`` seconds."""
    now = int(time.time())
    claims: dict[str, object] = {settings.jwt_user_claim: user, "iat": now, "exp": now + lifetime}
    if channels:
        claims["channels"] = channels
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    algorithm = settings.jwt_algorithms[0] if settings.jwt_algorithms else "HS256"
    return jwt.encode(claims, secret, algorithm)


def development_secret(folder: Path, *, create: bool = False) -> str | None:
    """The secret kept in the data folder, made at the first start."""
    file = folder / _SECRET_FILE
    return _kept(file) if create or file.exists() else None


def development_api_key(folder: Path) -> tuple[str, Path]:
    """A key of the HTTP API and the file in the data folder that keeps it, made at the first start."""
    file = folder / _API_KEY_FILE
    return _kept(file), file


def development_api_keys(folder: Path) -> str:
    """The keys of the HTTP API as their setting has them: that one, which may do everything."""
    key, _ = development_api_key(folder)
    scopes = ["publish", "grant", "read", "disconnect"]
    return json.dumps({"development": {"key": key, "scopes": scopes}})


def development_key(settings: Settings) -> str | None:
    """That key, where it counts: whoever has given keys of their own uses those."""
    folder, keys = settings.data_folder, settings.api_keys
    if keys is None or not (folder / _API_KEY_FILE).exists():
        return None
    counts = keys.get_secret_value() == development_api_keys(folder)
    return development_api_key(folder)[0] if counts else None


def _kept(file: Path) -> str:
    try:
        if file.exists() and (kept := file.read_text("utf-8").strip()):
            return kept
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+") as handle:
            # Two gateways that are started together get the same one.
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not (secret := handle.read().strip()):
                secret = secrets.token_urlsafe(48)
                handle.write(secret + "\n")
            return secret
    except OSError as error:
        raise UsageError(
            f"development mode keeps its secrets in {file.parent}: {error.strerror}; GATEWAY_DATA_FOLDER chooses another folder"
        ) from None


def signing_secret(settings: Settings) -> str:
    """What a token for trying out is signed with.

    Raises:
        UsageError: there is no secret.
    """
    if settings.jwt_secret is not None:
        return settings.jwt_secret.get_secret_value()
    secret = development_secret(settings.data_folder)
    if secret is None:
        raise UsageError(
            "there is no secret to sign with: set GATEWAY_JWT_SECRET, or start `make run` once "
            "(keys of GATEWAY_JWT_KEYS are not used here)"
        )
    print(f"signed with the development secret of {settings.data_folder}", file=sys.stderr)  # noqa: T201
    return secret
