"""``gateway top``: all gateways as an operator sees them."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from typing import Final

from gateway.commands import asking_redis
from gateway.commands.output import Commands, complain, say, say_json
from gateway.operating.nodes_table import as_json, as_text
from gateway.options import add_options
from gateway.settings import UsageError
from publisher import AsyncPublisher, Publisher, Rejected, Unavailable

_DESCRIPTION: Final = (
    "Show all living gateways: connections, rates and lag, as each has told Redis a few seconds ago, again and again until "
    "q or Ctrl-C. s sorts by connections, by lag, by name. Where the output is no terminal, a table is printed each time. "
    "NO_COLOR=1 does without colours. Exit codes: 0 ended by you, 1 Redis refuses, or does not answer for --json, 2 a mistake "
    "in the command."
)
_SHORTEST: Final = 0.1
_ANSWER_SECONDS: Final = 3.0


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("top", help="show all living gateways", description=_DESCRIPTION)
    parser.set_defaults(run=_run)
    parser.add_argument("--json", action="store_true", help="print one snapshot as JSON, and end")
    parser.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="pause between two looks (default: 2)",
    )
    add_options(parser, asking_redis.SETTINGS, asking_redis.HELP)


def _run(options: argparse.Namespace) -> int:
    url, prefix = asking_redis.where(options)
    if not _SHORTEST <= options.every <= 3600:
        raise UsageError(f"--every must be {_SHORTEST} to 3600 seconds")
    # Redis' trouble is shown, and a line of the log would tear the picture.
    logging.getLogger().addHandler(logging.NullHandler())
    if options.json:
        with Publisher.from_url(url, prefix=prefix) as publisher:
            say_json(as_json(publisher.nodes()))
        return 0
    try:
        if _is_a_screen():
            asyncio.run(_show(url, prefix, options.every))
        else:
            _print(url, prefix, options.every)
    except KeyboardInterrupt:
        pass
    return 0


def _is_a_screen() -> bool:
    return (
        sys.platform != "win32" and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    )


async def _show(url: str, prefix: str, every: float) -> None:
    from gateway.operating import live  # noqa: PLC0415 - only this command needs rich

    # Whoever looks again in a moment need not try again before.
    async with AsyncPublisher.from_url(
        url, prefix=prefix, retries=0, timeout=_ANSWER_SECONDS
    ) as publisher:
        await live.show(publisher.nodes, every, time.monotonic)


def _print(url: str, prefix: str, every: float) -> None:
    with Publisher.from_url(url, prefix=prefix, retries=0, timeout=_ANSWER_SECONDS) as publisher:
        while True:
            try:
                say(as_text(publisher.nodes()) + "\n")
            except Rejected:
                raise
            except Unavailable as error:
                complain(str(error))
            time.sleep(every)
