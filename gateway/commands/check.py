"""``gateway check``: whether the configuration and Redis will do."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import Any

from gateway import logs
from gateway.commands.missing_settings import complete
from gateway.commands.output import Commands, say_json
from gateway.options import add_options, load_settings


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check the configuration and Redis",
        usage="%(prog)s [options]",
        description="Check the configuration and Redis; with --development, those of `make run`. The report is JSON on "
        "standard output. "
        "Exit codes: 0 ok, 1 the report has errors, 2 a setting is invalid (told on standard error).",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--json", action="store_true", help="changes nothing: the report is JSON in any case"
    )
    add_options(parser)


def _run(options: argparse.Namespace) -> int:
    from gateway.check import check  # noqa: PLC0415 - it knows all parts of a node

    settings = load_settings(options)
    logs.configure("error")  # the report says it all

    async def checked() -> dict[str, Any]:
        async with contextlib.AsyncExitStack() as stack:
            return await check(
                await complete(settings, stack) if settings.development else settings
            )

    report = asyncio.run(checked())
    say_json(report)
    return 0 if report["ok"] else 1
