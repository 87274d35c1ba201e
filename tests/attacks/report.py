"""The table of attacks, as Markdown, to be read or pasted."""

from __future__ import annotations

from dataclasses import astuple

from tests.attacks.harness import Outcome

_COLUMNS = (
    "attack",
    "s",
    "heartbeat, s",
    "message, s",
    "newcomer, s",
    "machine, s",
    "memory, MiB",
    "node, cores",
    "Redis, cores",
    "Redis, MiB",
    "keys",
    "log, KB",
    "drawn, MiB",
)
_WIDTH = 46

HEAD = "\n".join(
    (
        f"| {_COLUMNS[0]:<{_WIDTH}} | {' | '.join(_COLUMNS[1:])} |",
        f"|{'-' * (_WIDTH + 2)}|{'|'.join('-' * (len(each) + 1) + ':' for each in _COLUMNS[1:])}|",
    )
)


def line(outcome: Outcome) -> str:
    """One attack."""
    figures = (
        f"{value:>{len(column)}.{2 if value < 10 and isinstance(value, float) else 0}f}"
        for value, column in zip(astuple(outcome.cost), _COLUMNS[1:], strict=True)
    )
    return f"| {outcome.kind.name:<{_WIDTH}} | {' | '.join(figures)} |"
