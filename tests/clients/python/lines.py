"""What a client program tells its test (tests/clients/client_program.py)."""

from __future__ import annotations

import sys


def say(word: str, *rest: object) -> None:
    """Write a line."""
    sys.stdout.write(" ".join([word, *map(str, rest)]) + "\n")
    sys.stdout.flush()
