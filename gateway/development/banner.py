"""What a developer is told once the gateway runs: where it is, and lines to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway.development.login import make_token
from gateway.settings import Settings
from gateway.web.console import CONSOLE
from gateway.web.server import TEST_PAGE, publisher_command

USER: Final = "user-123"
_TOKEN_LIFETIME_SECONDS: Final = 86_400


def banner(
    settings: Settings,
    port: int,
    internal_ports: Sequence[int],
    api_port: int | None,
    secret: str,
) -> str:
    """What to paste where, once the gateway listens."""
    token = make_token(secret, USER, ["run-results/*"], _TOKEN_LIFETIME_SECONDS, settings)
    base = settings.base_path
    redis, given = _redis(settings)
    publisher = given + publisher_command()
    secure = "" if settings.tls_certificate is None else "s"
    internal_secure = "" if settings.internal_tls_certificate is None else "s"
    metrics = "\n              ".join(
        f"http{internal_secure}://localhost:{internal}/metrics" for internal in internal_ports
    )
    api = (
        "" if api_port is None else f"  HTTP API    http{internal_secure}://localhost:{api_port}\n"
    )
    console = (
        f"  Console     http{internal_secure}://localhost:{internal_ports[0]}{CONSOLE}\n"
        if settings.console
        else ""
    )
    return (
        "\nThe gateway is running (development mode; Ctrl-C ends it).\n\n"
        f"  WebSocket   ws{secure}://localhost:{port}{base}?token={token}\n\n"
        f"  Test page   http{secure}://localhost:{port}{base}{TEST_PAGE}#token={token}\n\n"
        f"{console}{api}"
        f"  Metrics     {metrics}\n"
        f"  Redis       {redis}\n\n"
        f'  Publish     {publisher} notify {USER} --title "Hello" --message "It works"\n'
        f"              {publisher} run --session demo --user {USER} -- python3 -c 'print(6 * 7)'\n"
    )


def _redis(settings: Settings) -> tuple[str, str]:
    """Redis's URL as it may be shown, and what tells it to a command that cannot find it by itself."""
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    if (Path.cwd() / ".gateway" / "redis.url").exists() and settings.data_folder == Path(
        ".gateway"
    ):
        return url, ""
    if urlsplit(url).password is None and "password=" not in url:
        return url, f"PUBLISHER_REDIS_URL={shlex.quote(url)} "
    return "as given", 'PUBLISHER_REDIS_URL="$GATEWAY_REDIS_URL" '
