"""Where the documentation explains an error. What carries a code carries this too, as ``help``."""

from __future__ import annotations


def entry(code: str) -> str:
    """The entry of an error's code: a path in the project, since its documentation has no URL of its own."""
    return f"docs/errors.md#{code}"
