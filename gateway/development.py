"""What development mode brings along: a Redis, a secret, and lines to paste."""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import jwt

from gateway.settings import Settings
from gateway.web.server import TEST_PAGE, publisher_command

USER: Final = "user-123"
_SECRET_FILE: Final = "jwt-secret"  # noqa: S105 - a file's name
_TOKEN_LIFETIME_SECONDS: Final = 86_400


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
    if file.exists():
        return file.read_text("utf-8").strip()
    if not create:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = secrets.token_urlsafe(48)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secret + "\n")
    return secret


def banner(settings: Settings, port: int, internal_ports: Sequence[int], secret: str) -> str:
    """What to paste where, once the gateway listens."""
    token = make_token(secret, USER, ["run-results/*"], _TOKEN_LIFETIME_SECONDS, settings)
    redis, given = _redis(settings)
    publisher = given + publisher_command()
    metrics = "\n              ".join(
        f"http://localhost:{internal}/metrics" for internal in internal_ports
    )
    return (
        "\nThe gateway is running (development mode; Ctrl-C ends it).\n\n"
        f"  WebSocket   ws://localhost:{port}?token={token}\n\n"
        f"  Test page   http://localhost:{port}{TEST_PAGE}#token={token}\n\n"
        f"  Metrics     {metrics}\n"
        f"  Redis       {redis}\n\n"
        f'  Publish     {publisher} notify {USER} --title "Hello" --message "It works"\n'
        f"              {publisher} run --session demo -- python3 -c 'print(6 * 7)'\n"
    )


def _redis(settings: Settings) -> tuple[str, str]:
    """Redis's URL as it may be shown, and what tells it to a command that cannot find it by itself."""
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    if (Path.cwd() / ".gateway" / "redis.url").exists() and settings.data_folder == Path(
        ".gateway"
    ):
        return url, ""
    if urlsplit(url).password is None:
        return url, f"PUBLISHER_REDIS_URL={shlex.quote(url)} "
    return "as given", 'PUBLISHER_REDIS_URL="$GATEWAY_REDIS_URL" '
