"""Programs that roll dice for some seconds, and can roll the same ones again."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence


def parser_of(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(prog=name, description=(doc or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, help="what the dice begin with; another each time")
    return parser


def options_of(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> argparse.Namespace:
    """What was given, with a ``seed`` in any case; it is told, so that the run can be repeated."""
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(2**32)
    sys.stdout.write(f"seed {options.seed}, {options.seconds:g} s\n")
    sys.stdout.flush()
    return options
