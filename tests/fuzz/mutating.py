"""Bytes that are nearly right: what is known to be right, with one thing changed, or some."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

LONGEST: Final = 65_536
"""Bytes of an input: what is read at once."""

_OCTETS: Final = (
    0x00,
    0x01,
    0x0A,
    0x0D,
    0x20,
    0x22,
    0x2E,
    0x3A,
    0x7B,
    0x7D,
    0x7E,
    0x7F,
    0x80,
    0xFF,
)
_MOST_CHANGES: Final = 6
_LONG_ONES: Final = 0.02
"""Of the inputs; each takes as long as a hundred others."""
_UNTOUCHED: Final = 0.05
_BYTE_BY_BYTE: Final = 0.2
_LAST: Final = 8

Change = Callable[[bytearray], None]


class Mutator:
    """Makes one input after the other.

    Args:
        corpus: what is known to be right, or to be wrong in a way that was wrong once.
        words: what means something where it stands, to be put anywhere.
        dice: chooses; the same dice make the same inputs.
    """

    def __init__(
        self, corpus: Sequence[bytes], words: Sequence[bytes], dice: random.Random
    ) -> None:
        self._corpus = corpus
        self._words = words or [b"\0"]
        self._dice = dice
        self._changes: tuple[Change, ...] = (
            *(self._flip, self._set, self._insert_word, self._insert_octets, self._replace_word),
            *(self._remove, self._repeat, self._splice, self._cut_off, self._swap, self._count),
        )

    def next(self) -> bytes:
        """The next input."""
        dice = self._dice
        data = bytearray(dice.choice(self._corpus))
        if dice.random() >= _UNTOUCHED:
            for _ in range(dice.randint(1, _MOST_CHANGES)):
                dice.choice(self._changes)(data)
        if dice.random() < _LONG_ONES:
            self._lengthen(data)
        return bytes(data[:LONGEST])

    def _place(self, data: bytearray) -> int:
        return self._dice.randrange(len(data) + 1)

    def _span(self, data: bytearray) -> slice:
        start = self._place(data)
        return slice(start, start + self._dice.choice((1, 1, 2, 4, 16, 64)))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._dice.randrange(len(data))] ^= 1 << self._dice.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._dice.randrange(len(data))] = self._dice.choice(_OCTETS)

    def _insert_word(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._dice.choice(self._words)

    def _replace_word(self, data: bytearray) -> None:
        old = self._dice.choice(self._words)
        found = data.find(old)
        if found >= 0:
            data[found : found + len(old)] = self._dice.choice(self._words)

    def _insert_octets(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self._dice.randbytes(self._dice.choice((1, 2, 4, 8, 100)))

    def _remove(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _repeat(self, data: bytearray) -> None:
        span = self._span(data)
        data[span.start : span.start] = data[span] * self._dice.choice((1, 2, 7, 50))

    def _splice(self, data: bytearray) -> None:
        other = self._dice.choice(self._corpus)
        data[self._place(data) :] = other[self._dice.randrange(len(other) + 1) :]

    def _cut_off(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _swap(self, data: bytearray) -> None:
        first, second = self._span(data), self._span(data)
        data[first], data[second] = data[second], data[first]

    def _count(self, data: bytearray) -> None:
        """Put another number in the place of one."""
        digits = [place for place, octet in enumerate(data) if 0x30 <= octet <= 0x39]
        if digits:
            place = self._dice.choice(digits)
            number = self._dice.choice((b"0", b"-1", b"1e400", b"9" * 20, b"9" * 5_000, b"1.5"))
            data[place : place + 1] = number

    def _lengthen(self, data: bytearray) -> None:
        """Make it long by repeating a part of it, a word or an octet: what takes a time that is not linear shows."""
        span = data[self._span(data)]
        part = self._dice.choice((bytes(span) or b"x", self._dice.choice(self._words), b"["))
        place = self._place(data)
        room = max(0, LONGEST - len(data))
        data[place:place] = part * (self._dice.randint(0, room) // len(part))


def pieces(data: bytes, dice: random.Random) -> list[bytes]:
    """The input as a network may cut it: anywhere, and where something may be about to end."""
    size = len(data)
    places = {0, size, *(dice.randrange(size + 1) for _ in range(dice.randrange(5)))}
    if dice.random() < _BYTE_BY_BYTE:
        places |= {*range(max(0, size - _LAST), size)}
    return [data[start:end] for start, end in pairwise(sorted(places))]
