"""``python -m tests.fuzz``: all targets by turns, with other inputs each time, for as long as it is told.

``make fuzz SECONDS=3600`` runs it. It exits with 1 at the first input that breaks what reads it, takes long or is
kept, and prints that input.
"""

from __future__ import annotations

import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tests.fuzz.fuzzing import Tally, Target, fuzz, fuzz_structured
from tests.fuzz.targets import TARGETS
from tests.support.dice import options_of, parser_of

_A_TURN: Final = 20_000
_STRUCTURED: Final = 500
_HANGS_SECONDS: Final = 300
"""Of the processor, for all inputs of a turn together: they take some seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = parser_of("fuzz", __doc__)
    parser.add_argument("--only", default="", help="the targets whose name contains this")
    options = options_of(parser, arguments)
    targets = [make() for name, make in TARGETS.items() if options.only in name]
    try:
        outcome = _run(targets, random.Random(options.seed), time.monotonic() + options.seconds)
    except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
        sys.stdout.write(traceback.format_exc())
        return 1
    sys.stdout.write(_table(*outcome) + "\n")
    return 0


def _run(
    targets: list[Target], dice: random.Random, until: float
) -> tuple[Counter[str], dict[str, Tally]]:
    """Each target at least once."""
    inputs: Counter[str] = Counter()
    worst: dict[str, Tally] = {}
    while True:
        for target in targets:
            with _alarm():
                tally = fuzz(target, _A_TURN, dice.getrandbits(32))
                fuzz_structured(target, _STRUCTURED, dice.getrandbits(32))
            inputs[target.name] += _A_TURN + _STRUCTURED
            worst[target.name] = max(tally, worst.get(target.name, tally), key=_slowest)
        if time.monotonic() >= until:
            return inputs, worst


def _slowest(tally: Tally) -> float:
    return tally.slowest


@contextmanager
def _alarm() -> Iterator[None]:
    """An input over which the reader hangs is an error, which then tells the input."""

    def hangs(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"a turn has taken {_HANGS_SECONDS} s of the processor")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, _HANGS_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _table(inputs: Counter[str], worst: dict[str, Tally]) -> str:
    rows = [
        f"| {name:<10} | {count:>10} | {1_000 * worst[name].slowest:>11.2f} |"
        for name, count in inputs.items()
    ]
    head = [
        f"| {'target':<10} | {'inputs':>10} | {'slowest, ms':>11} |",
        f"|{'-' * 12}|{'-' * 11}:|{'-' * 12}:|",
    ]
    return "\n".join([*head, *rows])


if __name__ == "__main__":
    sys.exit(main())
