"""The ``gateway`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final

from gateway.commands.output import complain
from gateway.settings import UsageError
from publisher.command_line import EPILOG, FAILED, WRONG, Parser, ended
from publisher.errors import InvalidInput, PublisherError

_COMMANDS: Final = (
    *("serve", "token", "check", "acl", "webhooks", "plan", "tail", "load"),
    *("conformance", "top", "drain", "completion"),
)
"""In the order of the help: modules of ``gateway.commands``. Each adds itself, with a function ``run`` that returns the exit code."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with the codes of docs/command-line.md."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(ended(lambda: _run_command(parser(_needed(given)).parse_args(given))))


def _needed(arguments: Sequence[str]) -> Sequence[str]:
    """The command that is asked for, so that nothing is loaded for others; all for the help, for a mistake, and for what is about all."""
    first = arguments[0] if arguments else ""
    return (first,) if first in _COMMANDS and first != "completion" else _COMMANDS


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


def parser(names: Sequence[str] = _COMMANDS) -> argparse.ArgumentParser:
    """What reads the command line of these commands. In what it returns, ``root`` is itself, for the command about all commands."""
    parser = Parser(
        "gateway", description="A horizontally scalable real-time gateway.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in names:
        import_module(f"gateway.commands.{name}").add(commands)
    return parser
