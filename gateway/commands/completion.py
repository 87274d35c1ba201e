"""``gateway completion``: what lets a shell complete this command."""

from __future__ import annotations

import argparse

from gateway.commands.output import Commands, say
from gateway.settings import UsageError
from publisher import completion


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="print a script that lets a shell complete commands",
        description=completion.DESCRIPTION,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("shell", choices=completion.SHELLS, help="the shell that you use")


def _run(options: argparse.Namespace) -> int:
    try:
        say(completion.script(options.root, options.shell))
    except completion.NoShtab as error:
        raise UsageError(str(error)) from None
    return 0
