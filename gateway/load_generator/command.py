"""``gateway load``: its options, and how its result is told."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Final

import orjson

from gateway.client.connecting import check_url
from gateway.load_generator.generator import Load
from gateway.load_generator.tally import Result

DESCRIPTION: Final = (
    "Put a load on a deployment: open connections, publish to their users, and see how late messages come and whether any "
    "is lost. Publishing needs the deployment's Redis (GATEWAY_REDIS_URL), and the tokens its secret (GATEWAY_JWT_SECRET). "
    "Exit codes: 0 everything has arrived, 1 something was lost or could not be published, 2 a mistake in the command."
)

SETTINGS: Final = (
    *("redis_url", "redis_prefix"),
    *("jwt_secret", "jwt_algorithms", "jwt_user_claim", "jwt_audience", "jwt_issuer"),
    "data_folder",
)
"""What ``gateway load`` looks at."""

MOST_CONNECTIONS: Final = 50_000
"""As many ports as an address has for connections to one server, less some (Linux: 28,232 unless widened)."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gateway load``, but for settings."""
    parser.add_argument("--url", required=True, help="of the gateways: ws://… or wss://…")
    for name, kind, default, text in (
        ("connections", int, 100, "connections, each of a user of its own"),
        ("rate", float, 100, "messages a second, in all"),
        ("seconds", float, 10, "how long"),
        ("message-bytes", int, 200, "size of a message's data"),
        (
            "patience",
            float,
            10,
            "seconds after the last arrival until what is missing counts as lost",
        ),
    ):
        parser.add_argument(
            f"--{name}", type=kind, default=default, metavar="N", help=f"{text} ({default})"
        )
    parser.add_argument("--json", action="store_true", help="print JSON")


def load_of(options: argparse.Namespace) -> Load:
    """The load that is asked for.

    Raises:
        ValueError: a number is out of bounds, or the URL is none of a WebSocket.
    """
    check_url(options.url)
    if not 1 <= options.connections <= MOST_CONNECTIONS:
        raise ValueError(f"--connections must be 1 to {MOST_CONNECTIONS}")
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


def output(result: Result, *, as_json: bool) -> str:
    """What the command prints."""
    if as_json:
        return orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2).decode()
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
