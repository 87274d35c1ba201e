"""The stress program: three gateways under load, and all faults at random for as long as it is told.

``make soak SECONDS=600 SEED=1`` runs it and prints one table; ``TOPOLOGY=sentinel`` or ``TOPOLOGY=cluster`` gives it
another Redis. It exits with 1 when a message was lost or anything else that must hold did not (``invariants.py``).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.faults.allowance import Allowance
from tests.faults.deployment import running_world
from tests.faults.invariants import violations
from tests.faults.logs import timeline
from tests.faults.mayhem import ALLOWED, SETTINGS, mayhem
from tests.faults.summary import Summary, summary
from tests.faults.trace import Trace
from tests.faults.turns import turns
from tests.faults.world import Load, World
from tests.support import topology
from tests.support.dice import options_of, parser_of

NODES: Final = 3
_OVERTIME_SECONDS: Final = 120.0
_RELOAD_SECONDS: Final = 3.0
# The table's rows, and the first words of the violations that each of them counts.
RULES: Final = {
    "lost": ("lost", "gap", "mute"),
    "out of order": ("disordered", "repeated on one connection"),
    "above the limit": ("limit",),
    "false alarms": ("false alarm",),
    "heard without access": ("overheard", "let in"),
    "ended without cause": ("sent away",),
    "publishes reported wrongly": ("dishonest", "published twice", "unknown"),
    "scheduled wrongly": ("scheduled",),
    "removed wrongly": ("removed",),
    "receipts that are none": ("receipt",),
    "presence told wrongly": ("presence",),
    "events told wrongly": ("event",),
    "left in Redis": ("leftover",),
    "unexplained log lines": ("log",),
    "late turns": ("late",),
}
_MIB: Final = 1024 * 1024
_ALONE_SECONDS: Final = 60.0
_CALM_SECONDS: Final = 8.0
"""So long nothing happens in the end that would excuse anything."""
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
    """What a run has shown. ``slowest`` are the longest turns to unready, and to ready, in seconds."""

    figures: Summary
    faults: Counter[str]
    violations: list[str]
    slowest: tuple[float, float]
    start: Memory
    end: Memory
    timeline: str = ""
    """Faults and log lines."""

    @property
    def passed(self) -> bool:
        """Whether all that must hold did."""
        return not self.violations

    def count(self, *kinds: str) -> int:
        """How many violations are of these kinds."""
        return sum(each.partition(":")[0] in kinds for each in self.violations)


def _allowed(seconds: float) -> Allowance:
    """A run of less than a minute is a part of the tests, which use the machine at the same time."""
    allowed = replace(ALLOWED, apart=topology.chosen() == topology.CLUSTER)
    return allowed if seconds < _ALONE_SECONDS else replace(allowed, turn_seconds=0.0)


async def soak(folder: Path, seed: int, seconds: float) -> Outcome:
    """Run for ``seconds``, and until everything that was published has arrived."""
    load = Load(reload_seconds=_RELOAD_SECONDS, more=True)
    async with (
        asyncio.timeout(seconds + _OVERTIME_SECONDS),
        running_world(folder, seed, nodes=NODES, replicated=True, load=load, **SETTINGS) as w,
    ):
        start = Memory.of(w)
        faults = await mayhem(w, seed, seconds)
        await w.everybody_listens(60.0)
        await asyncio.sleep(_CALM_SECONDS)
        end = Memory.of(w)
        trace: Trace = await w.finish()
    return Outcome(
        summary(trace),
        faults,
        violations(trace, _allowed(seconds)),
        _slowest(trace),
        start,
        end,
        timeline(trace),
    )


def _slowest(trace: Trace) -> tuple[float, float]:
    measured = turns(trace)
    unready, ready = (
        max((seconds for times in by_fault.values() for seconds in times), default=0.0)
        for by_fault in (measured.unready, measured.ready)
    )
    return unready, ready


def table(outcome: Outcome, seed: int, seconds: float) -> str:
    """The outcome as Markdown, to be read or pasted."""
    figures, start, end = outcome.figures, outcome.start, outcome.end
    named = [kind for kinds in RULES.values() for kind in kinds]
    rows = {
        "Redis": topology.chosen(),
        "length, s": f"{seconds:g}",
        "seed": str(seed),
        "faults": str(outcome.faults.total()),
        "broken connections": str(figures.breaks),
        "pages that gave up, and were loaded anew": str(figures.reloads),
        "published": str(figures.published),
        "scheduled, cancelled": f"{figures.scheduled}, {figures.cancelled}",
        "removed": str(figures.removed),
        "events": str(figures.events),
        "delivered": str(figures.delivered),
        "repeated": str(figures.repeated),
        **{rule: str(outcome.count(*kinds)) for rule, kinds in RULES.items()},
        "other violations": str(len(outcome.violations) - outcome.count(*named)),
        "unready after, s, at most": f"{outcome.slowest[0]:.1f}",
        "ready after, s, at most": f"{outcome.slowest[1]:.1f}",
        "longest outage, s": f"{figures.longest_wait:.1f}",
        "memory at the start, MiB": f"{start.first / _MIB:.1f} ({start.all / _MIB:.1f})",
        "memory at the end, MiB": f"{end.first / _MIB:.1f} ({end.all / _MIB:.1f})",
    }
    rows |= {
        f"fault: {name.replace('_', ' ')}": str(n) for name, n in sorted(outcome.faults.items())
    }
    width = max(map(len, rows))
    lines = [f"| {name:<{width}} | {value:>16} |" for name, value in rows.items()]
    return "\n".join(
        [f"| {'':<{width}} | {'':>16} |", f"|{'-' * (width + 2)}|{'-' * 17}:|", *lines]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = options_of(parser_of("soak", __doc__), arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        outcome = asyncio.run(soak(Path(folder), options.seed, options.seconds))
    sys.stdout.write(table(outcome, options.seed, options.seconds) + "\n\n")
    for violation in outcome.violations[:_SHOWN]:
        sys.stdout.write(f"VIOLATION {violation}\n")
    if outcome.passed:
        return 0
    kept = Path(tempfile.gettempdir()) / f"soak-{options.seed}.log"
    violated = "".join(f"VIOLATION {each}\n" for each in outcome.violations)
    kept.write_text(violated + outcome.timeline, "utf-8")
    sys.stdout.write(f"All violations, faults and log lines are in {kept}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
