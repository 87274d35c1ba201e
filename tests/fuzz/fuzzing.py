"""Gives a target one input after the other, and sees that it neither fails, nor takes long, nor grows."""

from __future__ import annotations

import gc
import logging
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz.mutating import Mutator

MOST_SECONDS: Final = 0.1
"""Of the processor, for one input. Others wait so long: a fifth of what a bystander's heartbeat may take."""
_TRIES: Final = 4
"""An input that took longer is given again: a collection of garbage may have come in between."""
_BLOCKS: Final = 2_000
_BLOCKS_PER_INPUT: Final = 0.1
_MIB: Final = 2**20
_MOST_MIB: Final = 16.0
_SHOWN: Final = 500
_PAGE: Final = 4_096


class Target(Protocol):
    """Something that reads what comes from outside.

    Attributes:
        name: in a word.
        corpus: inputs that it can read, and some that it once could not.
        words: what means something in them.
        structured: makes inputs that have the right form.
    """

    name: str
    corpus: Sequence[bytes]
    words: Sequence[bytes]
    structured: SearchStrategy[bytes]

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input.

        Raises:
            Exception: it was read in a way in which it must not be; any one that is not declared is one.
        """


@dataclass(frozen=True)
class Tally:
    """What a run has shown: how many inputs there were, the seconds of the slowest, and what is kept of half of them."""

    inputs: int
    slowest: float
    blocks: int
    mib: float


def fuzz(target: Target, inputs: int, start: int) -> Tally:
    """Give ``target`` so many inputs.

    Args:
        start: what the dice begin with; the same start makes the same inputs.

    Raises:
        AssertionError: one took too long, or something is kept of them. Whatever else one raises is told with it.
    """
    dice = random.Random(start)
    mutator = Mutator(target.corpus, target.words, dice)
    slowest = 0.0
    with _silence():
        for data in target.corpus:
            slowest = max(slowest, _give(target, data, start))
        for _ in range(inputs // 2):
            slowest = max(slowest, _give(target, mutator.next(), dice.getrandbits(32)))
        before = _held()
        for _ in range(inputs - inputs // 2 - len(target.corpus)):
            slowest = max(slowest, _give(target, mutator.next(), dice.getrandbits(32)))
        blocks, mib = (now - then for now, then in zip(_held(), before, strict=True))
    tally = Tally(inputs, slowest, int(blocks), mib)
    assert blocks <= _BLOCKS + _BLOCKS_PER_INPUT * inputs, f"{target.name} grows: {tally}"
    assert mib <= _MOST_MIB, f"{target.name} grows: {tally}"
    return tally


def fuzz_structured(target: Target, inputs: int, start: int) -> None:
    """Give ``target`` so many inputs that have the right form; one that fails is made as short as can be."""

    @seed(start)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.structured)
    def check(data: bytes) -> None:
        _give(target, data, start)

    with _silence():
        check()


def _give(target: Target, data: bytes, start: int) -> float:
    """Give it one input; returns the seconds that it took."""
    try:
        took = _took(target, data, start)
        tries = 1
        while took > MOST_SECONDS and tries < _TRIES:
            took = min(took, _took(target, data, start))
            tries += 1
        assert took <= MOST_SECONDS, f"it took {took:.3f} s"
    except BaseException as error:
        shown = repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}… of {len(data)} bytes"
        error.add_note(f"{target.name}, dice {start}: {shown}")
        raise
    return took


def _took(target: Target, data: bytes, start: int) -> float:
    begun = time.thread_time()
    target.take(data, random.Random(start))
    return time.thread_time() - begun


def _held() -> tuple[int, float]:
    """Blocks of memory in use, and resident MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1]) if _HAS_PROC else 0
    return sys.getallocatedblocks(), pages * _PAGE / _MIB


_HAS_PROC: Final = Path("/proc/self/statm").exists()


@contextmanager
def _silence() -> Iterator[None]:
    """What is wrong with an input is logged, and each line would take longer than the input."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
