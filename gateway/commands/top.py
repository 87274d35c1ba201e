"""``gateway top``: all gateways as an operator sees them."""

from __future__ import annotations

import argparse
import time
from typing import Final

from gateway.commands import asking_redis
from gateway.commands.output import Commands, say, say_json
from gateway.operating.nodes_table import as_json, as_text
from gateway.options import add_options

_DESCRIPTION: Final = (
    "Show all living gateways: connections, rates and lag, as each has told Redis a few seconds ago, again and again until "
    "Ctrl-C."
)
_CLEAR: Final = "\x1b[H\x1b[2J"


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("top", help="show all living gateways", description=_DESCRIPTION)
    parser.set_defaults(run=_run)
    parser.add_argument("--json", action="store_true", help="print one snapshot as JSON, and end")
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS", help="pause between two looks (2)"
    )
    add_options(parser, asking_redis.SETTINGS)


def _run(options: argparse.Namespace) -> int:
    with asking_redis.publisher(options) as publisher:
        if options.json:
            say_json(as_json(publisher.nodes()))
            return 0
        while True:
            say(_CLEAR + as_text(publisher.nodes()))
            time.sleep(max(0.1, options.every))
