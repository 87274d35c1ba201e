"""``python -m tests.model``: tenants, tokens, grants and faults at random, for as long as it is told.

``make model SECONDS=600 SEED=1`` runs it and prints one table; ``TOPOLOGY=sentinel`` or ``TOPOLOGY=cluster`` gives it
another Redis. It exits with 1 when somebody heard what was not theirs, or missed what was (``rules.py``).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.model.record import Record
from tests.model.rules import violations
from tests.model.run import run
from tests.support import topology
from tests.support.dice import options_of, parser_of

_SHOWN: Final = 30


def table(record: Record, found: list[str]) -> str:
    """A run as Markdown."""
    arrivals = sum(len(each.arrivals) for visit in record.visits for each in visit.sessions)
    rows = {
        "Redis": topology.chosen(),
        "connections": len(record.visits),
        "messages that came": arrivals,
        "refusals and ends": sum(len(visit.refusals) for visit in record.visits),
        "the event loop was late by, s": f"{record.late.most:.2f}",
        **{f"step: {name}": count for name, count in sorted(record.steps.items())},
        "violations": len(found),
    }
    width = max(map(len, rows))
    return "\n".join(f"| {name:<{width}} | {value:>8} |" for name, value in rows.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = options_of(parser_of("model", __doc__), arguments)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        record = asyncio.run(run(Path(folder), options.seed, options.seconds))
    found = violations(record)
    sys.stdout.write(table(record, found) + "\n")
    for each in found[:_SHOWN]:
        sys.stdout.write(f"VIOLATION {each}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
