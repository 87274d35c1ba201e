"""``python -m tests.bench``: what the gateway costs, measured from outside, in a few minutes.

Prints tables, and leaves ``results.json`` and ``fan-out.svg`` in ``build/bench``.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import time
from pathlib import Path

import orjson

from tests.bench.document import document
from tests.bench.measuring import machine, raise_file_limit
from tests.bench.plot import plot
from tests.bench.programs import BUILD, ROOT
from tests.bench.receiving import ReceiverError
from tests.bench.report import comparison, table
from tests.bench.running import PARTS, run
from tests.bench.scale import FULL, TINY, Scale

_SPARE_FILES = 500
_UNEVEN = 1.2


def main(arguments: list[str]) -> int:
    """Run what is asked for; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.document and (options.tiny or set(options.only) != set(PARTS)):
        parser.error("--document is for a whole run")
    if sys.platform != "linux":
        raise SystemExit("the benchmark reads Linux's accounts of processes (proc(5))")
    scale = _scale(options)
    raise_file_limit(_files(scale) + _SPARE_FILES)
    began = time.monotonic()

    def tell(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:5.0f} s  {what}\n")

    try:
        results = asyncio.run(run(options.only, scale, peers=options.peers, tell=tell))
    except ReceiverError as error:
        # What the node has written is among the notes: it may tell why.
        notes = getattr(error, "__notes__", [])
        raise SystemExit(
            "\n".join([f"not all that was sent has arrived: {error}", *notes])
        ) from None
    tell("done")
    options.out.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine(), "scale": dataclasses.asdict(scale), "results": results}
    (options.out / "results.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    sys.stdout.write(f"{machine()}\n\n{table(results)}\n\n")
    if compared := comparison(results):
        (options.out / "fan-out.svg").write_text(plot(results, machine(), scale.sockets), "utf-8")
        sys.stdout.write(f"{compared}\n")
    if options.document:
        tell(f"written: {', '.join(document(told, ROOT))}")
    return 0


def _files(scale: Scale) -> int:
    """The most sockets that a process holds: the gateway's of the crowd, or a worker's of the largest part."""
    # The kernel does not give each worker the same number.
    worker = max(scale.many_connections) / scale.many_workers * _UNEVEN
    return max(*scale.crowd, round(worker))


def _scale(options: argparse.Namespace) -> Scale:
    scale = TINY if options.tiny else FULL
    if options.rounds:
        scale = dataclasses.replace(scale, rounds=options.rounds)
    if options.connections:
        few, _ = scale.many_connections
        scale = dataclasses.replace(scale, many_connections=(few, options.connections))
    if options.channels:
        scale = dataclasses.replace(scale, many_logs=options.channels)
    return scale


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", type=_parts, default=PARTS, help=f"some of {','.join(PARTS)}", metavar="PART,…"
    )
    parser.add_argument("--peers", action="store_true", help="other servers beside the gateway")
    parser.add_argument("--rounds", type=int, help="how often each load is repeated")
    parser.add_argument("--connections", type=int, help="of the part scale", metavar="N")
    parser.add_argument("--channels", type=int, help="with a log, of the part logs", metavar="N")
    parser.add_argument("--tiny", action="store_true", help="seconds for all, figures for nobody")
    parser.add_argument(
        "--document", action="store_true", help="also write the figures into the documentation"
    )
    parser.add_argument("--out", type=Path, default=BUILD, help="folder for the results")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := set(parts) - set(PARTS):
        known = ", ".join(PARTS)
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(sorted(unknown))}; there are {known}"
        )
    return parts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
