"""docs/http-api.md tells of every endpoint, code and limit, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.api.admission import MOST_BYTES, MOST_REQUESTS, MOST_WAITING, MOST_WATCHES
from gateway.api.bodies import MOST_BYTES_OF_LINES, MOST_LINES
from gateway.api.endpoints import ENDPOINTS
from gateway.api.keys import Scope
from gateway.api.openapi import document
from gateway.api.publishing import MOST_RECIPIENTS
from gateway.api.server import DOCUMENT
from gateway.node import inquiries, inspection, watching

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http-api.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]


def test_each_endpoint_has_its_row_with_its_scope_and_its_members() -> None:
    told = {row[0].strip("`"): row for row in ROWS if row[0].startswith("`") and "/v1/" in row[0]}
    assert {f"{each.method} {each.path}" for each in ENDPOINTS} | {f"GET {DOCUMENT}"} == set(told)
    for each in ENDPOINTS:
        row = told[f"{each.method} {each.path}"]
        assert row[1] == f"`{each.scope}`"
        for member in (*(each.body or ()), *each.query):
            assert member.name in row[2], (each.path, member.name)


def test_each_code_has_its_row() -> None:
    sources = (ROOT / "gateway" / "api").glob("*.py")
    used = {
        code
        for path in sources
        for code in re.findall(
            r"""(?:Problem\(\s*\d+,|_unauthorized\(|\(\d{3},)\s*"([a-z_]+)\"""",
            path.read_text("utf-8"),
        )
    }
    table = PAGE.partition("## Errors")[2].partition("\n## ")[0]
    assert len(used) > 15
    # Nobody asks for replicas here.
    assert used - {"not_replicated"} == set(
        re.findall(r"`([a-z]+_[a-z_]+|busy|rejected|unavailable)`", table)
    ) - {"maybe_sent"}


def test_the_limits_are_told() -> None:
    assert f"{MOST_LINES:,} lines and {MOST_BYTES_OF_LINES >> 20} MiB" in PAGE
    assert f"{MOST_RECIPIENTS:,} at most" in PAGE
    assert f"{MOST_REQUESTS:,} requests, each" in PAGE
    assert f"{MOST_WAITING:,} requests with `wait_confirmed`" in PAGE
    assert f"{MOST_BYTES >> 20} MiB of bodies and answers" in PAGE
    assert f"after {inquiries.ANSWER_SECONDS:g} s is named" in PAGE
    assert (
        f"{inspection.MOST_CONNECTIONS} connections of a user, {inspection.MOST_SUBSCRIPTIONS}"
        in PAGE
    )
    assert f"the {inspection.MOST_CHANNELS} with most subscriptions" in PAGE
    assert f"serves {MOST_WATCHES} watches at a time, half of them for one key" in PAGE
    assert f"takes part in {watching.MOST_WATCHES}:" in PAGE
    assert f"sends at most {watching.MOST_EVENTS} for a watch each" in PAGE
    assert f"It looks again every {inquiries.RENEW_SECONDS:g} s" in PAGE
    assert f"renewed for {inquiries.WATCH_SECONDS:g} s" in PAGE
    for scope in Scope:
        assert f"`{scope}`" in PAGE


def test_the_document_names_no_schema_that_is_not_there() -> None:
    made = document(ENDPOINTS, "1.0")
    assert set(made["paths"]) == {each.path for each in ENDPOINTS}
    names = set(re.findall(r"#/components/schemas/(\w+)", str(made)))
    assert names == set(made["components"]["schemas"])
    identifiers = [
        operation["operationId"] for path in made["paths"].values() for operation in path.values()
    ]
    assert len(identifiers) == len(set(identifiers)) == len(ENDPOINTS)
