"""``python -m tests.attacks``: every attack in turn, each for some seconds, with a line for each.

Exits with 1 when one of them was out of bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.attacks.harness import Outcome, attack
from tests.attacks.kinds import KINDS, Kind
from tests.attacks.report import HEAD, line
from tests.attacks.target import LARGE, SMALL, Size
from tests.bench.measuring import machine, raise_file_limit
from tests.support.redis_server import redis_server

_FILES = 8_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="attacks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="the attacks whose name contains this")
    parser.add_argument("--small", action="store_true", help="with the numbers of the tests")
    options = parser.parse_args(arguments)
    raise_file_limit(_FILES)
    kinds = [kind for kind in KINDS if options.only in kind.name]
    sys.stdout.write(f"{machine()}\n\n{HEAD}\n")
    outcomes = [one for kind in kinds if (one := _run(kind, SMALL if options.small else LARGE))]
    sys.stdout.write("\n")
    for outcome in outcomes:
        for excess in outcome.excesses:
            sys.stdout.write(f"OUT OF BOUNDS {outcome.kind.name}: {excess}\n")
    return int(any(outcome.excesses for outcome in outcomes))


def _run(kind: Kind, size: Size) -> Outcome | None:
    """One attack, with a Redis of its own; ``None`` when it cannot be tried here."""
    # Debian keeps servers in sbin, which is not on every user's PATH.
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if kind.behind_nginx and nginx is None:
        sys.stdout.write(f"{kind.name}: skipped, nginx is not installed\n")
        return None
    with (
        tempfile.TemporaryDirectory(prefix="attacks-") as folder,
        redis_server(Path(folder)) as url,
    ):
        outcome = asyncio.run(attack(kind, size, url, f"a{secrets.token_hex(4)}", nginx))
    sys.stdout.write(line(outcome) + "\n")
    sys.stdout.flush()
    return outcome


if __name__ == "__main__":
    sys.exit(main())
