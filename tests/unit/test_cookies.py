"""Which cookie is taken for the one that holds a token, and when it may."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import TokenRejected
from gateway.core.frames import PLAIN
from gateway.core.handshake import Agreement
from gateway.core.header_lists import cookies
from gateway.core.http import Head
from gateway.web.auth import find_token
from gateway.web.openings import Serving, WebSocketOpening

NAME = "__Host-token"
ORIGIN = "https://app.school.example"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (f"{NAME}=a.b.c", ["a.b.c"]),
        (f"x=y; {NAME}=a.b.c; z={NAME}", ["a.b.c"]),
        (f"x=y;{NAME}=a.b.c;z", ["a.b.c"]),
        (f" \t{NAME}=a=b== ; x=y", ["a=b=="]),
        (f'{NAME}="a.b.c"', ['"a.b.c"']),
        (f"{NAME}=", [""]),
        (f"{NAME}=a; {NAME}=b", ["a", "b"]),
        ("", []),
        (NAME, []),
        (f"{NAME.lower()}=a", []),
        (f"x{NAME}=a; {NAME}x=b; {NAME} =c; x={NAME}=d", []),
        (f"x=y, {NAME}=a", []),
    ],
)
def test_a_cookie_is_found_by_its_name(line: str, values: list[str]) -> None:
    assert cookies([line], NAME) == values


def test_cookies_may_stand_in_several_lines() -> None:
    assert cookies(["x=y", f"{NAME}=a", f"z; {NAME}=b"], NAME) == ["a", "b"]


@given(st.text(alphabet=f';= \t"{NAME}', max_size=80), st.sampled_from([NAME, "H", "t-"]))
def test_a_cookie_is_what_stands_between_the_semicolons(line: str, name: str) -> None:
    parts = [part.strip(" \t").partition("=") for part in line.split(";")]
    assert cookies([line], name) == [
        value for found, equals, value in parts if equals and found == name
    ]


@pytest.mark.parametrize("name", ["a.*", "a+b", "a|b"])
def test_a_name_is_no_pattern(name: str) -> None:
    assert cookies([f"axx=1; a=2; b=3; aab=4; {name}=5"], name) == ["5"]


def head(*cookie_lines: str, origin: str | None = ORIGIN, **more: str) -> Head:
    fields = {name: [value] for name, value in more.items()} | {"cookie": [*cookie_lines]}
    if origin is not None:
        fields["origin"] = [origin]
    return Head("GET", "/", "", "1.1", fields)


def test_the_token_may_stand_in_the_cookie_that_was_named() -> None:
    assert find_token(head(f"a=b; {NAME}=t"), {}, NAME) == "t"
    assert find_token(head(f"a=b; {NAME}=t"), {}) is None
    assert find_token(head("a=b"), {}, NAME) is None
    assert find_token(head(f"{NAME}="), {}, NAME) is None


def test_a_cookie_without_an_origin_is_nobodys() -> None:
    agreement = cast(Agreement, None)
    serving = cast(Serving, None)
    for origin, counts in (("https://app.example.org", True), (None, False)):
        asked = head(f"{NAME}=t", origin=origin)
        assert WebSocketOpening(asked, agreement, PLAIN, serving).cookie_counts is counts


def test_a_token_that_was_shown_counts_before_one_that_was_sent_along() -> None:
    assert find_token(head(f"{NAME}=t"), {"token": "q"}, NAME) == "q"
    assert find_token(head(f"{NAME}=t", authorization="Bearer h"), {}, NAME) == "h"
    offered = {"sec-websocket-protocol": "realtime, bearer.s"}
    assert find_token(head(f"{NAME}=t", **offered), {}, NAME) == "s"
    # Also where the cookie is not to be trusted.
    assert find_token(head(f"{NAME}=t; {NAME}=u"), {"token": "q"}, NAME) == "q"


@pytest.mark.parametrize("lines", [(f"{NAME}=t; {NAME}=u",), (f"{NAME}=t", f"{NAME}=t")])
def test_a_cookie_that_comes_twice_may_be_anybodys(lines: tuple[str, ...]) -> None:
    with pytest.raises(TokenRejected, match="the cookie comes twice"):
        find_token(head(*lines), {}, NAME)
