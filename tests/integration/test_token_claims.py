"""What the claims of a genuine token lead to, with clocks that differ and tokens meant for others."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from publisher.errors import InvalidData
from publisher.records import check_user
from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.nodes import Node
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until

TESTS = Path(__file__).parents[1]
FIELD: list[dict[str, Any]] = json.loads((TESTS / "cases" / "claims.json").read_text("utf-8"))
PROTOCOL = (TESTS.parent / "docs" / "protocol.md").read_text("utf-8")
FRONTEND = (TESTS.parent / "docs" / "frontend.md").read_text("utf-8")

DECIDED: dict[str, dict[str, Any]] = {"sub": {"let_in": False, "code": "token_invalid"}}
"""A user's id is a string, in tokens as in the publisher's calls (docs/protocol.md)."""

NEIGHBOURS: list[dict[str, Any]] = [
    {"claims": {"iat": "+86400"}, "let_in": True},
    {"claims": {"iat": "yesterday?"}, "let_in": False, "code": "token_invalid"},
    {"claims": {"jti": "one of many"}, "let_in": True},
    {"claims": {"jti": 17}, "let_in": True},
    {"claims": {"jti": ["17"]}, "let_in": False, "code": "token_invalid"},
    {"claims": {"iat": "+10", "nbf": "+60"}, "let_in": False, "code": "token_not_yet_valid", "retry": True},
    {"claims": {"nbf": "+60", "exp": "+3600"}, "let_in": False, "code": "token_not_yet_valid", "retry": True},
    {"claims": {"nbf": "-60"}, "let_in": True},
    {"claims": {"nbf": "tomorrow"}, "let_in": False, "code": "token_invalid"},
    {"claims": {"exp": None}, "let_in": False, "code": "token_invalid"},
    {"claims": {"aud": None}, "let_in": True},
    {"claims": {"aud": []}, "let_in": False, "code": "token_invalid"},
    {"claims": {"aud": "mine"}, "configured_audience": "mine", "let_in": True},
    {"claims": {"aud": "other"}, "configured_audience": "mine", "let_in": False, "code": "token_invalid"},
    {"claims": {}, "configured_audience": "mine", "let_in": False, "code": "token_invalid"},
]  # fmt: skip


def absolute(value: Any) -> Any:
    """A time relative to now, as a test case has it, in seconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"[+-]\d+", value):
        return int(time.time()) + int(value)
    return value


def token_of(case: dict[str, Any]) -> str:
    return make_token("ann", **{name: absolute(value) for name, value in case["claims"].items()})


def connects_again(reason: str) -> bool:
    """What the documentation tells clients to do after this close reason."""
    table = PROTOCOL.partition("## Close codes")[2].partition("\n## ")[0]
    (row,) = [line for line in table.splitlines() if f"`{reason}`" in line]
    return row.split("|")[4].strip().startswith("yes")


@pytest.mark.parametrize("case", [*FIELD, *NEIGHBOURS], ids=lambda case: json.dumps(case["claims"]))
async def test_claims_from_the_field_are_let_in_or_refused_as_they_should_be(
    start_node: StartNode, case: dict[str, Any]
) -> None:
    node = await start_node(jwt_audience=case.get("configured_audience"))
    if isinstance(case["let_in"], str):
        (claim,) = case["claims"]
        case = case | DECIDED[claim]
    if case["let_in"]:
        async with connected(node.url, token_of(case)):
            return
    async with opened(node.url, token_of(case)) as client:
        error = await client.expect(type="error", code=case["code"])
        assert error["detail"]
        assert await client.expect_close() == (1008, case["code"])
    assert connects_again(case["code"]) is case.get("retry", False)


def test_the_documented_client_comes_back_after_what_may_be_tried_again() -> None:
    (hopeless,) = re.findall(r"const hopeless = .*\[(.*?)\]\.includes", FRONTEND)
    assert "'token_invalid'" in hopeless
    for code in {case["code"] for case in FIELD if case.get("retry")}:
        assert f"'{code}'" not in hopeless


async def test_a_token_that_is_not_valid_yet_may_be_tried_again(start_node: StartNode) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    token = make_token("ann", nbf=int(time.time()) + 2)
    async with opened(node.url, token) as client:
        await client.expect(type="error", code="token_not_yet_valid")

    async def is_let_in() -> bool:
        async with opened(node.url, token) as client:
            return bool((await client.receive())["type"] == "connected")

    await until(is_let_in)


async def test_a_refresh_with_a_token_that_is_not_valid_yet_is_told_so(node: Node) -> None:
    async with connected(node.url, make_token("ann")) as client:
        await client.send({"type": "refresh", "token": make_token("ann", nbf=2**31)})
        await client.expect(type="error", code="token_not_yet_valid")
        await client.sync()


async def test_a_token_for_another_audience_names_the_missing_setting_in_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        async with opened(node.url, make_token("ann", aud="other-api")) as client:
            await client.expect(type="error", code="token_invalid")
    lines = [each for each in caplog.messages if each.startswith("audience_not_configured")]
    assert lines == ["audience_not_configured setting=GATEWAY_JWT_AUDIENCE aud=other-api"]


@pytest.mark.parametrize("user", [12345, 1.5, True])
async def test_a_user_that_is_a_number_is_refused_by_gateway_and_publisher_alike(
    node: Node, user: object
) -> None:
    token = jwt.encode({"sub": user, "exp": 2**31}, SECRET, "HS256")
    async with opened(node.url, token) as client:
        await client.expect(type="error", code="token_invalid")
    with pytest.raises(InvalidData, match="user must be a string"):
        check_user(user)
