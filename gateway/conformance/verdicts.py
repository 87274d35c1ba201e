"""What a check comes to, beside passing."""

from __future__ import annotations


class Failed(Exception):
    """The server does not do what the requirement says."""


class Skipped(Exception):
    """It cannot be told in this run; the text says why."""


def expect(condition: object, why: str) -> None:
    """Go on where ``condition`` holds.

    Raises:
        Failed: it does not, with ``why``.
    """
    if not condition:
        raise Failed(why)
