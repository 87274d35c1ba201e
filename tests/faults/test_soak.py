"""The stress program itself: it runs, it judges, and it prints one table."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.soak import Memory, Outcome, table
from tests.faults.summary import Summary

ROOT = Path(__file__).parents[2]
SECONDS = 15
ROWS = ["published", "delivered", "repeated", "lost", "longest outage, s"]
ROWS += ["memory at the start, MiB", "memory at the end, MiB"]

FIGURES = Summary(
    published=9, delivered=10, repeated=1, lost=0, reported=0, longest_wait=0.5, breaks=1
)
GOOD = Outcome(FIGURES, Counter(lines_break=1), [], Memory(1, 3), Memory(1, 3))


def cells(printed: str) -> dict[str, str]:
    """The table's rows by their names."""
    rows = [line.split("|")[1:3] for line in printed.splitlines() if line.startswith("| ")]
    return {name.strip(): value.strip() for name, value in rows}


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
    assert figures["lost"] == "0"
    assert [row for row in figures if row in ROWS] == ROWS
    assert int(figures["faults"]) > 4
    assert int(figures["delivered"]) > int(figures["published"]) > 100


def test_it_passes_only_when_nothing_is_lost_and_all_that_must_hold_does() -> None:
    assert GOOD.passed
    assert not replace(GOOD, figures=replace(FIGURES, lost=1)).passed
    assert not replace(GOOD, violations=["limit: ann held 6 places"]).passed
    assert cells(table(replace(GOOD, figures=replace(FIGURES, lost=1)), 1, 60))["lost"] == "1"
