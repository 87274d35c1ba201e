"""What the commands ``publisher`` and ``gateway`` have in common: how a mistake is told, and how they end (docs/command-line.md)."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, Final, NoReturn

FAILED: Final = 1
"""It could not be done."""

WRONG: Final = 2
"""The command or the configuration is wrong."""

EPILOG: Final = (
    "`%(prog)s COMMAND --help` has the options of each. Exit codes: 0 done, 1 it could not be done, 2 the command or the "
    "configuration is wrong, and a few of single commands (docs/command-line.md)."
)
"""What the help of a command that is made of commands ends with."""

SIGNAL_BASE: Final = 128
"""A shell says of a program that a signal has ended: this and the signal's number."""

_INTERRUPTED: Final = SIGNAL_BASE + signal.SIGINT
_OUTPUT_CLOSED: Final = SIGNAL_BASE + 13  # SIGPIPE, which Windows has no name for


class Parser(argparse.ArgumentParser):
    """A parser, also of the commands below it, that tells a mistake in one line and where more is to be read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Else ``--token`` would be taken for ``--token-file``, and a new option might break what somebody has shortened.
        super().__init__(*args, **{**options, "allow_abbrev": False})

        self._given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override] # argparse's has overloads, too
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Read a command line; returns also what is unknown in it."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def parse_args(  # type: ignore[override] # argparse's has overloads for other kinds of namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Read a command line, of which nothing may be unknown."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(unrecognized(unknown))
        return options

    def error(self, message: str) -> NoReturn:
        """Tell a mistake and end."""
        command = self.prog.partition(" ")[0]
        misspelt = self._misspelt() if "are required: " in message else []
        if misspelt:  # perhaps what is required
            message += f"; {unrecognized(misspelt)}"
        told = " ".join(message.split())  # one line, whatever it quotes
        self.exit(WRONG, f"{command}: {told} (see {self.prog} --help)\n")

    def _misspelt(self) -> list[str]:
        """Options that are given and that this command does not have. With a space in it, it is a value."""
        known = self._option_string_actions
        before = takewhile("--".__ne__, self._given)
        options = [each.partition("=")[0] for each in before if each.startswith("--")]
        return [each for each in options if each not in known and " " not in each]


def unrecognized(unknown: Sequence[str]) -> str:
    """What is told of arguments that nobody knows. What stands behind an option may be a secret, and is not repeated."""
    options = [each.partition("=")[0] for each in unknown if each.startswith("-")]
    return f"unrecognized arguments: {' '.join(options or unknown)}"


def ended(command: Callable[[], int]) -> int:
    """Run a command to its end; returns the exit code.

    Ctrl-C, and a reader of the output that has had enough (``… | head``), end it as the signals would: with 130 and 141,
    and without a complaint.
    """
    try:
        try:
            return command()
        finally:
            # What is left for the end of Python would be complained about, help too. A stdout that is closed has no flush().
            print(end="", flush=True)  # noqa: T201
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OUTPUT_CLOSED
