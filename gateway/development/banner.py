"""What a developer is told once the gateway runs: what to open and to paste first, and where everything is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from gateway.development.login import development_key, make_token
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
    """What to open and to paste, once the gateway listens.

    A key that development mode has made stands in the fragments of addresses, which a browser sends to nobody.
    """
    token = make_token(secret, USER, ["run-results/*"], _TOKEN_LIFETIME_SECONDS, settings)
    shown = {"token": token}
    if settings.console and (key := development_key(settings)):
        shown["key"] = key
    redis, given = _redis(settings)
    publisher = given + publisher_command()
    secure = "" if settings.tls_certificate is None else "s"
    public = f"localhost:{port}{settings.base_path}"
    others = "\n".join(
        f"  {name:<11} {address}"
        for name, address in [
            ("WebSocket", f"ws{secure}://{public}?token={token}"),
            *_internal(settings, internal_ports, api_port),
            ("Redis", redis),
        ]
    )
    return f"""
The gateway is running (development mode; Ctrl-C ends it).

1. Open the test page, as {USER}:

  http{secure}://{public}{TEST_PAGE}#{urlencode(shown)}

2. Publish something, in another terminal in the same folder:

  {publisher} notify {USER} --title "Hello" --message "It works"
  {publisher} run --session demo --user {USER} -- python3 -c 'print(6 * 7)'

Also here:

{others}
"""


def _internal(
    settings: Settings, ports: Sequence[int], api_port: int | None
) -> Iterator[tuple[str, str]]:
    """What is not for clients: its names and addresses."""
    key = development_key(settings)
    base = f"http{'' if settings.internal_tls_certificate is None else 's'}://localhost"
    if settings.console:
        fragment = f"#{urlencode({'key': key})}" if key else ""
        yield "Console", f"{base}:{ports[0]}{CONSOLE}{fragment}"
    if api_port is not None:
        yield "HTTP API", f"{base}:{api_port}"
    if api_port is not None and key:
        yield "its key", key
    for each in ports:
        yield "Metrics", f"{base}:{each}/metrics"


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
