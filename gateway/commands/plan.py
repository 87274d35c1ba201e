"""``gateway plan``: its options and its output."""

from __future__ import annotations

import argparse
import math
from typing import Final

from gateway.commands.output import Commands, say, say_json
from gateway.planning.load import InvalidLoad, Load, option_of
from gateway.planning.plan import plan
from gateway.planning.telling import as_json, as_text
from gateway.settings import UsageError

_DESCRIPTION: Final = (
    "Say how many machines and Redis primaries a load needs, how busy they are, what a deploy costs, and which limit comes "
    "first. The figures behind it are measured (docs/scaling.md), so a plan is right to within a factor of two or so: "
    "measure your own load before you rely on it. Numbers may be written as 50000 or 5e4."
)
_OPTIONS: Final = {
    "connections": ("N", "connections that are open at the same time"),
    "publishes": ("RATE", "messages that are published a second"),
    "subscribers": ("N", "connections that each message goes to (default: 1)"),
    "hot_publishes": (
        "RATE",
        "messages a second to the busiest channel (default: a hundredth of all)",
    ),
    "message_bytes": ("BYTES", "size of a message's data (default: 200)"),
    "window": ("SECONDS", "time that a deploy may take (default: 600)"),
    "channels": ("N", "channels that have a log in Redis (default: as many as connections)"),
    "kept_messages": ("N", "messages in each log (default: 10)"),
    "commands": ("RATE", "commands to all gateways a second, such as revoked grants (default: 1)"),
    "cores": ("N", "cores of a machine with gateways (default: 4)"),
    "primaries": ("N", "primaries of Redis (default: as many as are needed)"),
}
_REQUIRED: Final = {"connections", "publishes"}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan", help="say how many machines a load needs", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)
    for name, (placeholder, text) in _OPTIONS.items():
        required = name in _REQUIRED
        parser.add_argument(
            option_of(name), type=_number, metavar=placeholder, help=text, required=required
        )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> int:
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    try:
        planned = plan(Load(**given))
    except InvalidLoad as error:
        raise UsageError(str(error)) from None
    if options.json:
        say_json(as_json(planned))
    else:
        say(as_text(planned))
    return 0


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number such as 50000 or 5e4, not {text!r}")
    # 1e6 is as whole as 1000000.
    return int(value) if value == int(value) else value
