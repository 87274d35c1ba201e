"""The ``gateway`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from gateway.commands import (
    acl,
    check,
    completion,
    conformance,
    drain,
    load,
    plan,
    serve,
    tail,
    token,
    top,
    webhooks,
)
from gateway.commands.output import complain
from gateway.settings import UsageError
from publisher.command_line import EPILOG, FAILED, WRONG, Parser, ended
from publisher.errors import InvalidInput, PublisherError

_COMMANDS: Final = (
    serve,
    token,
    check,
    acl,
    webhooks,
    plan,
    tail,
    load,
    conformance,
    top,
    drain,
    completion,
)
"""In the order of the help. Each adds itself, with a function ``run`` that returns the exit code."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with the codes of docs/command-line.md."""
    sys.exit(ended(lambda: _run_command(parser().parse_args(arguments))))


def _run_command(options: argparse.Namespace) -> int:
    try:
        code: int = options.run(options)
    except (UsageError, InvalidInput) as error:
        complain(str(error))
        return WRONG
    except PublisherError as error:
        complain(str(error))
        return FAILED
    return code


def parser() -> argparse.ArgumentParser:
    """What reads the command line. In what it returns, ``root`` is itself, for the command about all commands."""
    parser = Parser(
        "gateway", description="A horizontally scalable real-time gateway.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser
