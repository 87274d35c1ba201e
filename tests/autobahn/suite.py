"""The cases of the Autobahn suite, which the package ``kosoku`` brings, and how a server fares in them.

To be imported by a process of its own: ``kosoku`` puts modules of the suite where any import would find them.
"""

from __future__ import annotations

from typing import Final

from kosoku import FailureError, run_fuzzingclient
from kosoku._kosoku import CaseResult
from kosoku.cases import CASES

from tests.autobahn.table import INFORMATIONAL, NON_STRICT, OK, Outcome

_AT_ONCE: Final = 8

_HEAVY: Final = {"12", "13"}
_QUICK_HEAVY: Final = {
    *(f"12.{kind}.4" for kind in range(1, 6)),
    *(f"13.{offer}.4" for offer in range(1, 8)),
    *("12.1.11", "13.1.11"),
}
"""Of each text and each offer 1,000 messages of 1 KiB, more than the smallest window; and messages in fragments."""


def all_cases() -> list[str]:
    """The ids of all cases."""
    return list(CASES)


def quick_cases() -> list[str]:
    """Those that take some seconds together: all but most of the heavy ones."""
    return [case for case in CASES if case.partition(".")[0] not in _HEAVY or case in _QUICK_HEAVY]


async def outcomes(url: str, cases: list[str]) -> list[Outcome]:
    """Run cases against a server."""
    try:
        results = await run_fuzzingclient(url, cases, concurrency=_AT_ONCE)
    except FailureError as failed:
        results = failed.results
    # A pattern may mean more cases than one.
    wanted = set(cases)
    return [_outcome(result) for result in results if result.case_id in wanted]


def _outcome(result: CaseResult) -> Outcome:
    behavior, close = result.behavior.value, result.behavior_close.value
    if not result.passed:
        told = f"{behavior}: {result.result} Closing: {close}: {result.result_close}"
        return Outcome(result.case_id, behavior, told)
    # What is less than right about one of the two is so about the case.
    verdict = next((each for each in (NON_STRICT, INFORMATIONAL) if each in (behavior, close)), OK)
    return Outcome(result.case_id, verdict)
