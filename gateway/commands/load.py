"""``gateway load``: its options, and how its result is told."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Final

from gateway import serve
from gateway.client.connecting import check_url
from gateway.commands import asking_redis
from gateway.commands.output import Commands, complain, say, say_json
from gateway.commands.token import SIGNING
from gateway.development.login import make_token, signing_secret
from gateway.load_generator.generator import CannotLoad, Load, generate
from gateway.load_generator.tally import Result
from gateway.options import add_options, load_settings
from gateway.settings import UsageError
from publisher.errors import InvalidInput

_DESCRIPTION: Final = (
    "Put a load on a deployment: open connections, publish to their users, and see how late messages come and whether any "
    "is lost. Publishing needs the deployment's Redis (GATEWAY_REDIS_URL), and the tokens its secret (GATEWAY_JWT_SECRET); in a checkout with `make run` both are found. "
    "Exit codes: 0 everything has arrived, 1 something was lost or could not be published, 2 a mistake in the command."
)

_SETTINGS: Final = (*asking_redis.SETTINGS, *SIGNING)

_MOST_CONNECTIONS: Final = 50_000
"""As many ports as an address has for connections to one server, less some (Linux: 28,232 unless widened)."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "load", help="put a load on a deployment", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--url", required=True, help="of the gateways: ws://… or wss://…")
    for name, kind, default, text in (
        ("connections", int, 100, "connections, each of a user of its own"),
        ("rate", float, 100, "messages a second, in all"),
        ("seconds", float, 10, "how long messages are published"),
        ("message-bytes", int, 200, "size of a message's data"),
        (
            "patience",
            float,
            10,
            "seconds after the last arrival until what is missing counts as lost",
        ),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N",
            help=f"{text} (default: {default})",
        )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, _SETTINGS, {**asking_redis.HELP, **SIGNING})


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    redis_url = asking_redis.url_of(settings)
    secret = signing_secret(settings)

    def token_of(user: str) -> str:
        return make_token(secret, user, [], 3600, settings)

    try:
        result = serve.run(generate(_load_of(options), redis_url, settings.redis_prefix, token_of))
    except (ValueError, InvalidInput) as error:
        raise UsageError(str(error)) from None
    except CannotLoad as error:
        complain(str(error))
        return 1
    if options.json:
        say_json(asdict(result))
    else:
        say(_as_text(result))
    return 0 if result.is_good else 1


def _load_of(options: argparse.Namespace) -> Load:
    """The load that is asked for.

    Raises:
        ValueError: a number is out of bounds, or the URL is none of a WebSocket.
    """
    check_url(options.url)
    if not 1 <= options.connections <= _MOST_CONNECTIONS:
        raise ValueError(f"--connections must be 1 to {_MOST_CONNECTIONS}")
    for name in ("rate", "seconds", "patience"):
        if not 0 < getattr(options, name) < 1e6:
            raise ValueError(f"--{name} must be a positive number below 1e6")
    if not 0 <= options.message_bytes <= 2**20:
        raise ValueError(f"--message-bytes must be 0 to {2**20}")
    return Load(
        options.url,
        options.connections,
        options.rate,
        options.seconds,
        options.message_bytes,
        options.patience,
    )


def _as_text(result: Result) -> str:
    latency = ", ".join(f"{name} {value:g}" for name, value in result.latency_ms.items())
    counted = result.messages
    lines = [
        f"connections  {result.connections:,}",
        f"published    {counted.published:,} in {result.seconds:g} s, {result.rate:g} a second"
        + (f"; {counted.failed:,} failed" if counted.failed else ""),
        f"received     {counted.received:,}; lost {counted.lost:,}, repeated {counted.repeated:,}"
        + (f", losses told {counted.losses_told:,}" if counted.losses_told else ""),
        f"latency      {latency or 'none'} ms",
    ]
    return "\n".join(lines)
