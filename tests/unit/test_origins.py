"""Which pages may connect, and which patterns are refused because no page could match them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.core.origins import AllowedOrigins, BadOrigin
from gateway.settings import Settings

FIELD: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "cases" / "origins.json").read_text("utf-8")
)
DECIDED = {"https://a.b.example.org": True}
"""A star stands for one or more labels, as in a Content Security Policy (docs/configuration.md)."""


def named(case: dict[str, Any]) -> str:
    return f"{case['allowed'][0]} {case.get('origin')}"


@pytest.mark.parametrize("case", FIELD, ids=named)
def test_origins_from_the_field_are_let_in_or_refused_as_they_should_be(
    case: dict[str, Any],
) -> None:
    if case.get("start", True):
        let_in = case["let_in"]
        expected = let_in if isinstance(let_in, bool) else DECIDED[case["origin"]]
        assert AllowedOrigins(case["allowed"]).allow(case["origin"]) is expected
    else:
        with pytest.raises(BadOrigin, match="can never match"):
            AllowedOrigins(case["allowed"])


ALIKE = [
    ("https://app.example.org", "https://app.example.org"),
    ("https://app.example.org", "https://APP.example.org"),
    ("https://app.example.org", "https://app.example.org:443"),
    ("http://app.example.org:80/", "http://app.example.org"),
    ("https://app.example.org:8443", "https://app.example.org:8443"),
    ("https://*.example.org:*", "https://class.example.org:8443"),
    ("https://*.example.org:8443", "https://class.example.org:8443"),
    ("http://localhost:*", "http://localhost"),
    ("https://*", "https://any.thing"),
    ("https://*", "https://[2001:db8::1]"),
    ("http://[::1]:5173", "http://[::1]:5173"),
    ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
    ("http://192.0.2.7:3000", "http://192.0.2.7:3000"),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ("chrome-extension://*", "chrome-extension://abcdefghijklmnop"),
    ("file://", "file://"),
    ("NULL", "null"),
    ("*", "null"),
    ("*", "what\never"),
]
APART = [
    ("https://app.example.org", "http://app.example.org"),
    ("https://app.example.org", "https://app.example.org:8443"),
    ("https://app.example.org", "https://app.example.orgs"),
    ("https://app.example.org", "https://appxexample.org"),
    ("https://app.example.org", "https://app.example.org.evil.example"),
    ("https://app.example.org", "https://app.example.org@evil.example"),
    ("https://app.example.org", "https://app.example.org\n"),
    ("https://app.example.org", "null"),
    ("https://app.example.org", ""),
    ("https://app.example.org", "*"),
    ("https://*.example.org", "https://*.example.org"),
    ("https://*.example.org", "https://.example.org"),
    ("https://*.example.org", "https://evil.example/.example.org"),
    ("https://*.example.org", "https://evil.example#.example.org"),
    ("https://*.example.org", "https://evil.example:443.example.org"),
    ("https://*.example.org", "https://evilexample.org"),
    ("https://*.example.org", "https://class.example.org:8443"),
    ("http://localhost:*", "http://localhost:5173.evil.example"),
    ("http://localhost:*", "http://localhost:"),
    ("http://localhost:*", "http://localhost.evil.example:5173"),
    ("https://*", "http://any.thing"),
    ("null", "https://null"),
]


@pytest.mark.parametrize(("pattern", "origin"), ALIKE)
def test_a_page_that_a_pattern_stands_for_may_connect(pattern: str, origin: str) -> None:
    assert AllowedOrigins(["https://other.example", pattern]).allow(origin)


@pytest.mark.parametrize(("pattern", "origin"), APART)
def test_no_other_page_may_connect(pattern: str, origin: str) -> None:
    assert not AllowedOrigins(["https://other.example", pattern]).allow(origin)


@pytest.mark.parametrize("origin", [None, "https://anywhere.example", "null", ""])
def test_without_patterns_every_page_may_connect(origin: str | None) -> None:
    assert AllowedOrigins([]).allow(origin)


HOPELESS = {
    "localhost:5173": "no scheme",
    "*.example.org": "no scheme",
    "//app.example.org": "no scheme",
    "*://app.example.org": "no scheme",
    "wss://app.example.org": "the address of the page",
    "WS://app.example.org": "the address of the page",
    "https://app.example.org/*": "no path",
    "https://app.example.org?x": "no path",
    "https://app.example.org#": "no path",
    "https://user@app.example.org": "no user",
    "https://": "host is no name",
    "https://*.": "host is no name",
    "https://.example.org": "host is no name",
    "https://app..example.org": "host is no name",
    "https://app*.example.org": "host is no name",
    "https://*.*.example.org": "host is no name",
    "https://app.*.org": "host is no name",
    "https://app.example.org https://b.example.org": "no path",
    "https://app.example.org,": "host is no name",
    '"https://app.example.org"': "no scheme",
    "https://[::1": "no IPv6 address",
    "https://[app]": "no IPv6 address",
    "https://bücher.example": "ASCII",
    "https://app.example.org:0": "port",
    "https://app.example.org:65536": "port",
    "https://app.example.org:0443": "port",
    "https://app.example.org:https": "port",
    "https://app.example.org:44*": "port",
    "NULL ": "no scheme",
}


@pytest.mark.parametrize(("pattern", "reason"), HOPELESS.items())
def test_what_can_never_match_is_refused_at_the_start_with_the_reason(
    pattern: str, reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason) as told:
        Settings(allowed_origins=["https://app.example.org", pattern])
    assert repr(pattern) in str(told.value)
