"""What all commands write: results to standard output, what is wrong to standard error."""

from __future__ import annotations

import argparse
import sys
from typing import Any, TypeAlias

import orjson

# argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What commands are added to."""


def say(text: str) -> None:
    """Print a result at once."""
    print(text, flush=True)  # noqa: T201


def say_json(value: Any) -> None:
    """Print a result as JSON over several lines."""
    say(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def complain(text: str) -> None:
    """Print what is wrong, or what is to be done."""
    print(f"gateway: {text}", file=sys.stderr, flush=True)  # noqa: T201
