"""Who may hear what, as the model has it: when each way in begins and ends, and how exactly that is known.

A backend's call takes some time, and takes effect somewhere within it. So each way is *perhaps* there from the moment it is
asked for, and *surely* there once the call has returned; and likewise at its end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

CLOCKS_SECONDS: Final = 0.05
"""By which the end of a grant may be missed: Redis counts it in milliseconds of a clock of its own."""


@dataclass
class Spell:
    """A time in which a way is there: perhaps within the outer two moments, surely within the inner two."""

    perhaps_from: float
    surely_from: float
    surely_to: float = math.inf
    perhaps_to: float = math.inf

    def ends(self, asked: float, done: float) -> None:
        """It is taken back by a call that was made and returned then."""
        self.surely_to = min(self.surely_to, asked)
        self.perhaps_to = min(self.perhaps_to, done)

    def lasts_until(self, first: float, last: float) -> None:
        """It ends by itself between two moments."""
        self.ends(first - CLOCKS_SECONDS, last + CLOCKS_SECONDS)


class Ways:
    """All ways to what there is to hear: a channel, or all of a namespace.

    Who holds one is a user, everybody, or a connection by what its token says.
    """

    def __init__(self) -> None:
        self._spells: dict[tuple[Hashable, str], list[Spell]] = defaultdict(list)

    def begin(
        self, holder: Hashable, what: str, asked: float, done: float, lasts: float = math.inf
    ) -> None:
        """A way is opened by a call that was made and returned then; it lasts so many seconds from then on.

        It takes the place of the one that the holder had.
        """
        before = self._spells[holder, what]
        # Of two that follow each other without a gap there is one at each moment.
        unbroken = any(each.surely_from <= asked and done <= each.surely_to for each in before)
        self.end(holder, what, asked, done)
        spell = Spell(asked, asked if unbroken else done)
        spell.lasts_until(asked + lasts, done + lasts)
        before.append(spell)

    def last_until(self, holder: Hashable, what: str, at: float) -> None:
        """What was opened last ends by itself at a moment."""
        for spell in self._spells[holder, what][-1:]:
            spell.lasts_until(at, at)

    def end(self, holder: Hashable, what: str, asked: float, done: float) -> None:
        """A way is closed by a call that was made and returned then, if there is one."""
        for spell in self._spells[holder, what]:
            spell.ends(asked, done)

    def end_last(self, holder: Hashable, what: str, asked: float, done: float) -> None:
        """What was opened last is closed by a call that was made and returned then, perhaps before it was opened."""
        for spell in self._spells[holder, what][-1:]:
            spell.ends(asked, done)

    def doubt(self, holder: Hashable, what: str, since: float) -> None:
        """Nobody knows whether a way is there from then on."""
        self.end(holder, what, since, math.inf)

    def end_others(
        self, holder: Hashable, kept: Collection[str], asked: float, done: float
    ) -> None:
        """All ways of a holder are closed but some."""
        for who, what in list(self._spells):
            if who == holder and what not in kept:
                self.end(holder, what, asked, done)

    def perhaps(self, holders: Iterable[Hashable], what: str, begin: float, end: float) -> bool:
        """Whether one of them may have had a way at some moment from ``begin`` to ``end``."""
        return any(
            max(begin, spell.perhaps_from) <= min(end, spell.perhaps_to)
            for spell in self._of(holders, what)
        )

    def surely(self, holders: Iterable[Hashable], what: str, begin: float, end: float) -> bool:
        """Whether at each moment from ``begin`` to ``end`` one of them had a way."""
        spells = list(self._of(holders, what))
        at = begin
        while at <= end:
            reached = max(
                (each.surely_to for each in spells if each.surely_from <= at < each.surely_to),
                default=-math.inf,
            )
            if reached <= at:
                return False
            at = reached
        return True

    def _of(self, holders: Iterable[Hashable], what: str) -> Iterable[Spell]:
        names = {what, what.partition("/")[0]}
        for holder in holders:
            for name in names:
                yield from self._spells.get((holder, name), ())
