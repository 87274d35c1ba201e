"""What the command ``publisher`` writes: results to standard output, errors to standard error."""

from __future__ import annotations

import sys
from typing import Any

import orjson


def print_result(result: Any, *, at_once: bool = False) -> None:
    """Write a result as JSON, on a line of its own; ``at_once`` where the next one may take its time."""
    print(orjson.dumps(result).decode(), flush=at_once)  # noqa: T201


def complain(message: str) -> None:
    """Write what is wrong."""
    # One line, whatever the message quotes.
    sys.stderr.write(f"publisher: {' '.join(message.split())}\n")
