"""100,000 inputs that are nearly right: none breaks what reads it, takes long, or is kept."""

from __future__ import annotations

import random
import re
from typing import Final

import pytest
from hypothesis import strategies as st

from tests.fuzz.__main__ import main
from tests.fuzz.fuzzing import fuzz, fuzz_structured
from tests.fuzz.mutating import LONGEST, Mutator, pieces
from tests.fuzz.targets import TARGETS

INPUTS: Final = 100_000
STRUCTURED: Final = 500
"""Of each target's: Hypothesis makes them, which takes longer than to read them."""
SLOW: Final = {"key lists"}
"""Reading one makes keys, which takes as long as all the others together."""
START: Final = 11
"""The same inputs in each run, so that a test fails for a change and by no chance; ``make fuzz`` has others."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long, pytest.mark.timeout(240)] * (name in SLOW))
        for name in TARGETS
    ],
)
def test_whatever_comes_is_read_or_refused(name: str) -> None:
    target = TARGETS[name]()
    inputs = INPUTS // len(TARGETS) + 1
    tally = fuzz(target, inputs - STRUCTURED, START)
    fuzz_structured(target, STRUCTURED, START)
    print(f"{name}: {inputs} inputs, {tally}")  # noqa: T201 - told with -s, and of what fails


def test_an_hour_is_the_same_for_longer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0", "--seed", "7", "--only", "payloads"]) == 0
    told = capsys.readouterr().out
    assert "seed 7" in told
    assert "| payloads " in told


# -- that it would be noticed ---------------------------------------------------------------------


class Broken:
    """Fails at one octet, keeps what has another, and takes long over a third."""

    name = "broken"
    corpus = (b"abc",)
    words = (b"!",)
    structured = st.binary(max_size=3)

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._kept: list[list[int]] = []

    def take(self, data: bytes, _dice: random.Random) -> None:
        if self._fault == "raises" and b"!" in data:
            raise ZeroDivisionError
        if self._fault == "keeps":
            self._kept.append([len(data)])
        if self._fault == "is slow" and len(data) > 1_000:
            sum(range(20_000_000))


def test_an_input_that_fails_is_told() -> None:
    with pytest.raises(ZeroDivisionError) as told:
        fuzz(Broken("raises"), 1_000, START)
    (note,) = told.value.__notes__
    assert re.fullmatch(r"broken, dice \d+: b'.*!.*'", note)


def test_a_structured_input_that_fails_is_made_short() -> None:
    with pytest.raises(ZeroDivisionError) as told:
        fuzz_structured(Broken("raises"), 5_000, START)
    assert any(note.endswith("b'!'") for note in told.value.__notes__)


def test_what_is_kept_of_each_input_is_told() -> None:
    with pytest.raises(AssertionError, match="broken grows"):
        fuzz(Broken("keeps"), 10_000, START)


def test_an_input_that_takes_long_is_told() -> None:
    with pytest.raises(AssertionError, match="it took"):
        fuzz(Broken("is slow"), 5_000, START)


# -- the inputs -----------------------------------------------------------------------------------


def test_the_same_dice_make_the_same_inputs() -> None:
    def some(start: int) -> list[bytes]:
        mutator = Mutator((b"GET / HTTP/1.1", b"x" * 100), (b"word",), random.Random(start))
        return [mutator.next() for _ in range(500)]

    assert some(1) == some(1) != some(2)
    assert max(map(len, some(1))) <= LONGEST


def test_an_input_in_pieces_is_whole() -> None:
    dice = random.Random(1)
    for size in range(200):
        data = dice.randbytes(size)
        assert b"".join(pieces(data, dice)) == data
