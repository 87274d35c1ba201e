"""The stress program itself: it runs, it judges, and it prints one table."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.soak import RULES, Memory, Outcome, table
from tests.faults.summary import Summary

ROOT = Path(__file__).parents[2]
SECONDS = 15
ROWS = ["published", "delivered", "repeated", *RULES, "longest outage, s"]
ROWS += ["unready after, s, at most", "ready after, s, at most"]
ROWS += ["memory at the start, MiB", "memory at the end, MiB"]

FIGURES = Summary(
    published=9, delivered=10, repeated=1, reported=0, longest_wait=0.5, breaks=1, reloads=0
)
GOOD = Outcome(FIGURES, Counter(lines_break=1), [], (1.5, 0.5), Memory(1, 3), Memory(1, 3))


def cells(printed: str) -> dict[str, str]:
    """The table's rows by their names."""
    rows = [line.split("|")[1:3] for line in printed.splitlines() if line.startswith("| ")]
    return {name.strip(): value.strip() for name, value in rows}


@pytest.mark.long  # each of its faults has a test of its own
@pytest.mark.timeout(120)
async def test_a_short_run_mixes_faults_loses_nothing_and_prints_one_table(seed: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.soak"),
        *("--seconds", str(SECONDS), "--seed", str(seed)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = output.decode()
    assert process.returncode == 0, told
    assert told.startswith(f"seed {seed}, {SECONDS} s\n")
    figures = cells(told)
    assert {figures[rule] for rule in RULES} == {"0"}
    assert set(ROWS) <= figures.keys()
    assert int(figures["faults"]) > 4
    assert any(row.startswith("fault: ") for row in figures)
    assert int(figures["delivered"]) > int(figures["published"]) > 100


def test_it_passes_only_when_all_that_must_hold_does() -> None:
    assert GOOD.passed
    bad = replace(GOOD, violations=["limit: ann held 6 places", "gave up: ann"])
    assert not bad.passed
    figures = cells(table(bad, 1, 60))
    assert (figures["above the limit"], figures["other violations"]) == ("1", "1")
    assert figures["lost"] == "0"
