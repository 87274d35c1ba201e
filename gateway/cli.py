"""The ``gateway`` command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from gateway.commands import (
    acl,
    check,
    completion,
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
from publisher.errors import InvalidInput, PublisherError

_COMMANDS: Final = (serve, token, check, acl, webhooks, plan, tail, load, top, drain, completion)
"""In the order of the help. Each adds itself, with a function ``run`` that returns the exit code."""

_SIGNAL_BASE: Final = 128


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 for a mistake in the configuration, 1 for other trouble."""
    options = parser().parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except (UsageError, InvalidInput) as error:
        complain(str(error))
        sys.exit(2)
    except PublisherError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_SIGNAL_BASE + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has had enough. Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """What reads the command line. In what it returns, ``root`` is itself, for the command about all commands."""
    parser = argparse.ArgumentParser(
        "gateway", description="A horizontally scalable real-time gateway."
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    parser.set_defaults(root=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser
