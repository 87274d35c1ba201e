"""What became of the cases, by category, as a table in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

OK: Final = "OK"
NON_STRICT: Final = "NON-STRICT"
INFORMATIONAL: Final = "INFORMATIONAL"
"""The suite's own words for cases that are passed; all others are failed."""

CATEGORIES: Final = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits and performance",
    "10": "Messages in fragments of any size",
    "12": "Compression of several texts",
    "13": "Offers of compression",
}

_HEAD: Final = """\
| | category | cases | OK | non-strict | informational | failed |
|---:|---|---:|---:|---:|---:|---:|"""


class Outcome(NamedTuple):
    """What became of a case; ``told`` says what is wrong when it failed."""

    case: str
    verdict: str
    told: str = ""

    @property
    def category(self) -> str:
        """The number of its category."""
        return self.case.partition(".")[0]

    @property
    def failed(self) -> bool:
        """Whether the suite does not accept it."""
        return self.verdict not in {OK, NON_STRICT, INFORMATIONAL} or bool(self.told)


def table(outcomes: Iterable[Outcome]) -> str:
    """One row for each category, and one for all."""
    found = list(outcomes)
    rows = [
        row(number, name, of_category)
        for number, name in CATEGORIES.items()
        if (of_category := [each for each in found if each.category == number])
    ]
    return "\n".join([_HEAD, *rows, row("", "all", found)])


def row(number: str, name: str, outcomes: list[Outcome]) -> str:
    """A row of the table."""
    failed = sum(each.failed for each in outcomes)
    verdicts = Counter(each.verdict for each in outcomes if not each.failed)
    counts = [len(outcomes), *(verdicts[each] for each in (OK, NON_STRICT, INFORMATIONAL)), failed]
    return f"| {number} | {name} | {' | '.join(map(str, counts))} |"
