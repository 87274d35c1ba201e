"""The stress program: three gateways under load, and all faults at random for as long as it is told.

``make soak SECONDS=600 SEED=1`` runs it and prints one table. It exits with 1 when a message was lost or
anything else that must hold did not (``invariants.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.invariants import Allowance, violations
from tests.faults.mayhem import LONGEST_FREEZE_SECONDS, mayhem
from tests.faults.summary import Summary, summary
from tests.faults.trace import Trace
from tests.faults.world import World, running_world

NODES: Final = 3
# Short, so that in a minute everything happens more than once.
SETTINGS: Final = {
    "ping_interval_seconds": 5,
    "pong_timeout_seconds": 5,
    "drain_delay_seconds": 0.5,
    "drain_seconds": 2,
}
# Only a frozen node breaks the limit, until it wakes up and learns of it.
ALLOWED: Final = Allowance(limit_seconds=LONGEST_FREEZE_SECONDS + 5, evictions=True)
_OVERTIME_SECONDS: Final = 120.0
_MIB: Final = 1024 * 1024
_SHOWN: Final = 20


@dataclass(frozen=True)
class Memory:
    """Resident bytes: of the first node, which runs all the time, and of all nodes together."""

    first: int
    all: int

    @classmethod
    def of(cls, w: World) -> Memory:
        """Look now."""
        each = [node.process.resident_bytes for node in w.nodes]
        return cls(each[0], sum(each))


@dataclass(frozen=True)
class Outcome:
    """What a run has shown."""

    figures: Summary
    faults: Counter[str]
    violations: list[str]
    start: Memory
    end: Memory

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, and all that must hold did."""
        return self.figures.lost == 0 and not self.violations


async def soak(folder: Path, seed: int, seconds: float) -> Outcome:
    """Run for ``seconds``, and until everything that was published has arrived."""
    async with (
        asyncio.timeout(seconds + _OVERTIME_SECONDS),
        running_world(folder, seed, nodes=NODES, **SETTINGS) as w,
    ):
        start = Memory.of(w)
        faults = await mayhem(w, seed, seconds)
        await w.everybody_listens(60.0)
        end = Memory.of(w)
        trace: Trace = await w.finish()
    return Outcome(summary(trace), faults, violations(trace, ALLOWED), start, end)


def table(outcome: Outcome, seed: int, seconds: float) -> str:
    """The outcome as Markdown, to be read or pasted."""
    figures, start, end = outcome.figures, outcome.start, outcome.end
    rows = {
        "length, s": f"{seconds:g}",
        "seed": str(seed),
        "faults": str(outcome.faults.total()),
        "broken connections": str(figures.breaks),
        "published": str(figures.published),
        "delivered": str(figures.delivered),
        "repeated": str(figures.repeated),
        "lost": str(figures.lost),
        "longest outage, s": f"{figures.longest_wait:.1f}",
        "memory at the start, MiB": f"{start.first / _MIB:.1f} ({start.all / _MIB:.1f})",
        "memory at the end, MiB": f"{end.first / _MIB:.1f} ({end.all / _MIB:.1f})",
        "violations": str(len(outcome.violations)),
    }
    width = max(map(len, rows))
    lines = [f"| {name:<{width}} | {value:>16} |" for name, value in rows.items()]
    return "\n".join(
        [f"| {'':<{width}} | {'':>16} |", f"|{'-' * (width + 2)}|{'-' * 17}:|", *lines]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--seed", type=int, help="what the dice begin with; another each time")
    options = parser.parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    sys.stdout.write(f"seed {seed}, {options.seconds:g} s\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        outcome = asyncio.run(soak(Path(folder), seed, options.seconds))
    sys.stdout.write(table(outcome, seed, options.seconds) + "\n\n")
    for name, count in sorted(outcome.faults.items()):
        sys.stdout.write(f"{count:4} {name.replace('_', ' ')}\n")
    for violation in outcome.violations[:_SHOWN]:
        sys.stdout.write(f"VIOLATION {violation}\n")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
