"""How many files this process may open. A connection is a file."""

from __future__ import annotations

import contextlib
from typing import Final

_UNKNOWN: Final = 1_000_000
"""Where the system has no such limit that could be read."""


def raise_limit() -> None:
    """Allow as many as the system lets us."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """How many they may be."""
    with contextlib.suppress(ImportError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            return soft
    return _UNKNOWN
