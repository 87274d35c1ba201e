"""The cases of the Autobahn suite are passed, and the documentation says how."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.autobahn.table import NON_STRICT, OK, Outcome, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text("utf-8")
DEFAULT_SIZE = Settings.model_fields["max_message_bytes"].default
WITHIN_DEFAULT_SIZE = [
    *("9.1.1", "9.1.2", "9.2.1", "9.2.2"),
    *(f"9.{kind}.{length}" for kind in (7, 8) for length in range(1, 7)),
]
IN_PART = {"12", "13", ""}
"""Categories of which not all cases are run here; the last row is of all."""


def suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.autobahn", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def rows(text: str) -> dict[str, list[str]]:
    """The cells behind the number of each category."""
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    found = {first.strip(): [each.strip() for each in rest] for first, *rest in cells}
    return {number: rest for number, rest in found.items() if rest[-1].isdigit()}


@pytest.mark.timeout(120)
def test_clients_are_served_by_the_letter_of_the_rfcs_as_the_documentation_says() -> None:
    done = suite("--quick")
    assert done.returncode == 0, done.stderr
    told, documented = rows(done.stdout), rows(PAGE)
    whole = told.keys() - IN_PART
    assert {number: told[number] for number in whole} == {
        number: documented[number] for number in whole
    }


@pytest.mark.long
@pytest.mark.timeout(240)
def test_over_tls_clients_are_served_no_otherwise() -> None:
    done = suite("--quick", "--tls")
    assert done.returncode == 0, done.stderr
    told, documented = rows(done.stdout), rows(PAGE)
    whole = told.keys() - IN_PART
    assert {number: told[number] for number in whole} == {
        number: documented[number] for number in whole
    }


@pytest.mark.timeout(120)
def test_messages_within_the_default_limit_are_served() -> None:
    done = suite("--max-message-bytes", str(DEFAULT_SIZE), *WITHIN_DEFAULT_SIZE)
    assert done.returncode == 0, done.stderr


def test_messages_beyond_the_limit_are_not() -> None:
    done = suite("--max-message-bytes", str(DEFAULT_SIZE), "9.1.3", "9.2.3")
    assert done.returncode == 1
    assert {line.partition(" ")[0] for line in done.stderr.splitlines()} == {"9.1.3", "9.2.3"}


def test_the_documentation_tells_of_every_case() -> None:
    cases = Counter(case.partition(".")[0] for case in suite("--list").stdout.split())
    documented = {number: int(cells[1]) for number, cells in rows(PAGE).items()}
    assert documented == {**cases, "": cases.total()}


def test_the_documentation_tells_of_no_case_that_failed() -> None:
    assert {cells[-1] for cells in rows(PAGE).values()} == {"0"}


@pytest.mark.parametrize("verdict", ["FAILED", "UNIMPLEMENTED", "ERROR"])
def test_a_case_that_the_suite_does_not_accept_is_in_the_last_column(verdict: str) -> None:
    outcomes = [Outcome("6.4.1", NON_STRICT), Outcome("6.1.1", OK), Outcome("6.1.2", verdict, "x")]
    assert "| 6 | UTF-8 | 3 | 1 | 1 | 0 | 1 |" in table(outcomes)


def test_a_case_that_closes_wrongly_has_failed() -> None:
    assert Outcome("7.1.1", OK, "closed with a wrong code").failed


def test_an_unknown_case_is_refused() -> None:
    done = suite("99.1")
    assert done.returncode == 2
    assert "unknown: 99.1" in done.stderr
