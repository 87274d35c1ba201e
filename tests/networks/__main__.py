"""``python -m tests.networks``: real clients on bad networks, and how soon they have what they missed.

Needs Linux and root: it makes network namespaces and TUN devices. Prints a table. Exits with 1 when a message is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.networks.lab import possible, run_inside
from tests.networks.report import Figures, table
from tests.networks.scenarios import SCENARIOS
from tests.networks.stage import KINDS, stage
from tests.support.documents import fill
from tests.support.javascript import installed

_PAGE = Path("docs/reliability.md")


def main() -> int:
    """Play what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="networks", description=(__doc__ or "").partition("\n")[0]
    )
    names = ", ".join(each.name for each in SCENARIOS)
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"some of {names}")
    parser.add_argument("--kinds", default=",".join(KINDS), metavar="KIND,…", help="of clients")
    parser.add_argument("--users", type=int, default=25, help="clients of each kind (25)")
    parser.add_argument("--seed", type=int, default=1, help="of the packets that are lost (1)")
    parser.add_argument("--document", action="store_true", help=f"write the table into {_PAGE}")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        if not possible():
            sys.stderr.write("networks: run it as root on Linux: it makes network namespaces\n")
            return 2
        installed()  # there is no way out from inside
        return run_inside("tests.networks", sys.argv[1:])
    figures = asyncio.run(_play(options))
    if options.document:
        page = _PAGE.read_text("utf-8")
        _PAGE.write_text(fill(page, "networks", "table", table(figures)), "utf-8")
    return 0


async def _play(options: argparse.Namespace) -> list[Figures]:
    wanted = options.only.split(",") if options.only else [each.name for each in SCENARIOS]
    played = []
    async with stage(
        options.inside.split(","), options.kinds.split(","), options.users, options.seed
    ) as all_of_it:
        for scenario in SCENARIOS:
            if scenario.name not in wanted:
                continue
            all_of_it.forget_traffic()
            seconds = await scenario.play(all_of_it)
            for clients in all_of_it.clients:
                figures = Figures.of(scenario, all_of_it, clients, seconds.get(clients.kind, []))
                played.append(figures)
                sys.stdout.write(f"{figures.line()}\n")
                sys.stdout.flush()
    return played


if __name__ == "__main__":
    sys.exit(main())
