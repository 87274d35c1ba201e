"""Each code that a client or a backend may meet has its entry in ``docs/errors.md``, and each entry its code."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from gateway.api import problems
from gateway.core import closing
from gateway.core.error_entries import entry
from gateway.core.handshake import Refusal
from gateway.core.protocol import EndReason, ErrorCode
from tests.docs.test_documentation import PROTOCOL, ROOT, anchors, rows

ERRORS = (ROOT / "docs" / "errors.md").read_text("utf-8")
ENTRIES = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", ERRORS, re.DOTALL | re.MULTILINE))


def codes_in_calls(function: str, position: int, folders: tuple[str, ...]) -> set[str]:
    """The texts that are given at ``position`` to a function or class, wherever it is called."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == function
                    and len(node.args) > position
                    and isinstance(given := node.args[position], ast.Constant)
                ):
                    found.add(str(given.value))
    return found


CLOSINGS = [each for each in vars(closing).values() if isinstance(each, closing.Closing)]
PROBLEMS = {
    *codes_in_calls("Problem", 1, ("gateway/api",)),
    *codes_in_calls("_unauthorized", 0, ("gateway/api",)),
    *(code for _, code in problems._ERRORS.values()),
}
REFUSALS = {
    *codes_in_calls("Refusal", 1, ("gateway/core", "gateway/web")),
    *codes_in_calls("unavailable", 0, ("gateway/web",)),
}
CODES_WITHOUT_REASON = set(re.findall(r"^\| ([\d, ]+?) \| \|", PROTOCOL, re.MULTILINE))


def all_codes() -> set[str]:
    """Whatever this version of the code may say."""
    bare = {code for cell in CODES_WITHOUT_REASON for code in re.findall(r"\d+", cell)}
    reasons = {each.reason for each in CLOSINGS if each.reason}
    refusals = set(re.findall(r"`(\w+)`", " ".join(row[1] for row in refusal_rows())))
    return {*ErrorCode, *EndReason, *reasons, *PROBLEMS, *REFUSALS, *refusals, *bare}


def refusal_rows() -> list[list[str]]:
    return rows(PROTOCOL.partition("### Refused before the upgrade")[2].partition("\n##")[0])


def test_the_codes_are_found() -> None:
    assert "host_unknown" in REFUSALS
    assert {"rate_limited", "key_missing", "unavailable"} <= PROBLEMS
    assert {"origin_not_allowed", "redis_unavailable", "too_many_connections"} <= REFUSALS
    assert sorted(CODES_WITHOUT_REASON) == ["1000", "1002, 1007", "1006", "1009"]


@pytest.mark.parametrize("code", sorted(all_codes()))
def test_every_code_has_its_entry(code: str) -> None:
    page, _, anchor = entry(code).partition("#")
    assert anchor in anchors((ROOT / page).read_text("utf-8"))
    assert re.search(r"^\*.+\*\n\n\S.*\n\n\*\*What to do:\*\* \S", ENTRIES[code], re.MULTILINE)


def test_every_entry_has_its_code() -> None:
    assert ENTRIES.keys() == all_codes()


def test_every_refusal_in_http_is_in_the_protocols_table() -> None:
    told = {code for row in refusal_rows() for code in re.findall(r"`(\w+)`", row[1])}
    # A defect may be met anywhere, and the console is on a port that no client reaches.
    assert told >= REFUSALS - {"internal_error", "host_unknown"}


def test_whatever_is_refused_in_http_is_a_refusal_or_a_problem() -> None:
    """An answer that is made by hand has no `help`, and its code is found by none of these tests."""
    by_hand = [
        f"{path.relative_to(ROOT)}: {ast.unparse(call)}"
        for folder in ("gateway/web", "gateway/api")
        for path in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and is_refusal(call)
    ]
    assert by_hand == []


def is_refusal(call: ast.Call) -> bool:
    """Whether a call names a status of HTTP that is an error."""
    return any(
        each.arg == "status"
        and isinstance(each.value, ast.Constant)
        and isinstance(each.value.value, int)
        and each.value.value >= 400
        for each in call.keywords
    )


@pytest.mark.parametrize(
    "each", [each for each in CLOSINGS if each.error], ids=lambda each: each.reason
)
def test_the_error_before_a_close_names_the_entry_of_its_reason(each: closing.Closing) -> None:
    assert json.loads(each.error or b"")["help"] == entry(each.reason)


def test_a_refusal_in_http_and_a_problem_name_their_entry() -> None:
    refused = json.loads(Refusal(403, "origin_not_allowed", "no").body)["error"]
    assert refused["help"] == entry("origin_not_allowed")
    assert problems.invalid("no").members["help"] == entry("invalid_request")


def test_the_paths_of_entries_lead_somewhere() -> None:
    assert Path(ROOT / entry("x").partition("#")[0]).is_file()
