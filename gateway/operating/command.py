"""``gateway top`` and ``gateway drain``: an operator's look at all nodes, and a word to one of them."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

import orjson

from gateway.operating.nodes_table import as_json, as_text
from publisher import Publisher, PublisherError

SETTINGS: Final = ("redis_url", "redis_prefix")
"""What the two look at."""

_TOP: Final = (
    "Show all living gateways: connections, rates and lag, as each has told Redis a few seconds ago, again and again until "
    "Ctrl-C."
)
_DRAIN: Final = (
    "Let a gateway end as SIGTERM does: it is not ready any more, closes its connections one after the other, and exits. "
    "Whoever runs it decides whether it is started again."
)
_CLEAR: Final = "\x1b[H\x1b[2J"


def add_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """Add both commands to those of argparse; their parsers, which lack settings."""
    top = commands.add_parser("top", help="show all living gateways", description=_TOP)
    top.add_argument("--json", action="store_true", help="print one snapshot as JSON, and end")
    top.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS", help="pause between two looks (2)"
    )
    top.set_defaults(act=_top)
    drain = commands.add_parser("drain", help="let a gateway end", description=_DRAIN)
    drain.add_argument("node", metavar="NODE", help="its name, as `gateway top` shows it")
    drain.set_defaults(act=_drain)
    return [top, drain]


def run(options: argparse.Namespace, redis_url: str, prefix: str) -> int:
    """Carry one of them out; the exit code."""
    try:
        with Publisher.from_url(redis_url, prefix=prefix) as publisher:
            options.act(options, publisher)
    except PublisherError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _top(options: argparse.Namespace, publisher: Publisher) -> None:
    if options.json:
        shown = as_json(publisher.nodes())
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode(), flush=True)  # noqa: T201
        return
    try:
        while True:
            print(_CLEAR + as_text(publisher.nodes()), flush=True)  # noqa: T201
            time.sleep(max(0.1, options.every))
    except KeyboardInterrupt:
        pass


def _drain(options: argparse.Namespace, publisher: Publisher) -> None:
    publisher.drain(options.node)
    print(f"{options.node} has been told to drain", flush=True)  # noqa: T201
