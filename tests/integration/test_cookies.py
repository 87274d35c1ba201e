"""A token in a cookie: a browser sends it along for whatever page asks, so it counts only together with an origin that is listed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.integration.conftest import StartNode
from tests.support.nodes import Node
from tests.support.raw import RawClient
from tests.support.requests import UPGRADE, Line, line, request
from tests.support.tokens import make_token

COOKIE = "__Host-token"
LISTED = "https://app.school.example"
SETTINGS: dict[str, Any] = {"jwt_cookie": COOKIE, "allowed_origins": [LISTED]}


async def greeting(each: Line) -> dict[str, Any]:
    """Pass over the 101, and return the first message."""
    assert (await each.answer()).status == 101
    client = RawClient(each.reader, each.writer, "")
    await client.told()
    return client.last


async def told(node: Node, *more: str) -> dict[str, Any]:
    """The first message to a client that sends these lines."""
    async with line(node.url, request("GET / HTTP/1.1", *UPGRADE, *more)) as each:
        return await greeting(each)


async def test_a_listed_page_is_let_in_by_its_cookie(start_node: StartNode) -> None:
    node = await start_node(**SETTINGS)
    said = await told(node, f"Cookie: a=b; {COOKIE}={make_token('u')}; c", f"Origin: {LISTED}")
    assert (said["type"], said["userId"]) == ("connected", "u")


async def test_who_names_no_origin_has_shown_no_token_and_the_log_says_why(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(**SETTINGS)
    said = await told(node)
    assert (said["type"], said["code"]) == ("error", "token_missing")
    assert "its cookie" not in caplog.text
    said = await told(node, f"Cookie: {COOKIE}={make_token('u')}")
    assert (said["type"], said["code"]) == ("error", "token_missing")
    assert f"cause='its cookie {COOKIE} does not count, because it names no Origin'" in caplog.text


async def test_a_page_of_another_origin_is_refused_whatever_it_sends_along(
    start_node: StartNode,
) -> None:
    node = await start_node(**SETTINGS)
    cookie = f"Cookie: {COOKIE}={make_token('u')}"
    for origin in ("https://evil.example", "https://school.example", "null"):
        data = request("GET / HTTP/1.1", *UPGRADE, cookie, f"Origin: {origin}")
        async with line(node.url, data) as each:
            answer = await each.answer()
            assert (answer.status, answer.code) == (403, "origin_not_allowed")
    assert not node.gateway.stats.connections_opened


async def test_a_cookie_that_a_neighbour_may_have_set_as_well_is_not_believed(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = await start_node(**SETTINGS)
    both = "; ".join(f"{COOKIE}={make_token(user)}" for user in ("u", "v"))
    said = await told(node, f"Cookie: {both}", f"Origin: {LISTED}")
    assert (said["type"], said["code"]) == ("error", "token_invalid")
    assert "cause='the cookie comes twice'" in caplog.text


async def test_no_cookie_counts_unless_it_was_named(start_node: StartNode) -> None:
    node = await start_node(allowed_origins=[LISTED])
    said = await told(node, f"Cookie: {COOKIE}={make_token('u')}", f"Origin: {LISTED}")
    assert (said["type"], said["code"]) == ("error", "token_missing")


async def test_what_is_wrong_with_the_token_is_told_and_the_token_is_not_logged(
    start_node: StartNode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    node = await start_node(**SETTINGS)
    token = make_token("u", exp=1)
    said = await told(node, f"Cookie: {COOKIE}={token}", f"Origin: {LISTED}")
    assert said["code"] == "token_expired"
    assert not [part for part in token.split(".") if part in caplog.text]
