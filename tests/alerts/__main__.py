"""``python -m tests.alerts``: cause every alert on real processes, follow the runbook, and see it resolve.

Prints a line for each. Exits with 1 when one of them did not fire, or did not resolve.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback

from tests.alerts import causes  # noqa: F401 - fills the table
from tests.alerts.cases import CASES, Case, play
from tests.alerts.stage import Told


def main() -> int:
    """Play the cases that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="alerts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="the cases whose name contains this")
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="cases side by side (2)"
    )
    options = parser.parse_args()
    chosen = [case for case in CASES if options.only in case.name]
    failed = asyncio.run(_play(chosen, options.at_once))
    write(f"{len(chosen) - failed} of {len(chosen)} fired and resolved")
    return int(failed > 0)


async def _play(cases: list[Case], at_once: int) -> int:
    turns = asyncio.Semaphore(at_once)

    async def one(case: Case) -> bool:
        async with turns:
            try:
                write(_line(await play(case)))
            except Exception:  # noqa: BLE001 - the others go on
                write(f"{case.name}\n  FAILED\n{traceback.format_exc()}")
                return False
        return True

    return (await asyncio.gather(*map(one, cases))).count(False)


def write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(told: Told) -> str:
    lines = [
        f"{told.alert}: {told.cause}",
        f"  fired after {told.fired_after:.1f} s: {told.summary}",
        *(f"  tried: {sentence}" for sentence in told.tried),
        f"  resolved after {told.resolved_after:.1f} s",
    ]
    if told.others:
        lines.insert(2, f"  besides: {', '.join(told.others)}")
    if told.heard == "inhibited":
        lines.insert(2, "  Alertmanager tells nobody: another alert says so")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
