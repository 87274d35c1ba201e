"""``python -m tests.autobahn``: the Autobahn suite against the code that serves clients, in some minutes.

Prints what became of the cases; the status is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

import uvloop

from tests.autobahn.endpoint import endpoint
from tests.autobahn.over_tls import endpoint_over_tls
from tests.autobahn.suite import all_cases, outcomes, quick_cases
from tests.autobahn.table import Outcome, table
from tests.support.documents import fill

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "conformance.md"
_MAX_MESSAGE_BYTES: Final = 2**20
"""With this setting the longest message of the suite is read."""


def main(arguments: list[str]) -> int:
    """Run what is asked for; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    cases = options.cases or (quick_cases() if options.quick else all_cases())
    if unknown := set(cases) - set(all_cases()):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.document and len(cases) < len(all_cases()):
        parser.error("--document is for a whole run")
    if options.list:
        sys.stdout.write("\n".join(cases) + "\n")
        return 0
    try:
        found = uvloop.run(
            _run(cases, options.max_message_bytes, options.minutes * 60, tls=options.tls)
        )
    except TimeoutError:
        raise SystemExit(f"the suite has not ended within {options.minutes:g} minutes") from None
    return _report(cases, found, document=options.document)


async def _run(
    cases: list[str], max_message_bytes: int, seconds: float, *, tls: bool
) -> list[Outcome]:
    serve = endpoint_over_tls if tls else endpoint
    async with asyncio.timeout(seconds), serve(max_message_bytes) as url:
        return await outcomes(url, cases)


def _report(cases: list[str], found: list[Outcome], *, document: bool) -> int:
    shown = table(found)
    sys.stdout.write(f"{shown}\n")
    if document:
        PAGE.write_text(fill(PAGE.read_text("utf-8"), "autobahn", "table", shown), "utf-8")
    failed = [each for each in found if each.failed]
    for each in failed:
        sys.stderr.write(f"{each.case} {each.told}\n")
    if missing := set(cases) - {each.case for each in found}:
        sys.stderr.write(f"not run: {', '.join(sorted(missing))}\n")
    return 1 if failed or missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("cases", nargs="*", help="run only these, such as 6.4.1", metavar="CASE")
    parser.add_argument("--quick", action="store_true", help="without most of the heavy cases")
    parser.add_argument("--tls", action="store_true", help="over TLS of the gateway's own")
    parser.add_argument("--list", action="store_true", help="only tell which cases there are")
    parser.add_argument(
        "--max-message-bytes",
        type=int,
        default=_MAX_MESSAGE_BYTES,
        help="as GATEWAY_MAX_MESSAGE_BYTES",
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long it may take")
    parser.add_argument(
        "--document", action="store_true", help="also write the table into the documentation"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
