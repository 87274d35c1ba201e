"""The keys of the HTTP API as their file describes them."""

from __future__ import annotations

import hashlib
import json

import pytest

from gateway.api.keys import BadApiKeys, Scope, parse

KEY = "a-key-of-the-tests-0123456789-0123456789"


def test_keys_are_found_by_their_digest_and_shown_nowhere() -> None:
    digest = hashlib.sha256(KEY.encode())
    described = {"scopes": ["read", "publish"], "namespaces": ["a"], "rate": 5}
    (one,) = parse(json.dumps({"n": {"key": KEY, **described}})).values()
    (other,) = parse(json.dumps({"n": {"key_sha256": digest.hexdigest(), **described}})).values()
    assert one == other
    assert (one.digest, one.scopes) == (digest.digest(), {Scope.READ, Scope.PUBLISH})
    assert (one.namespaces, one.rate) == ({"a"}, 5)
    assert KEY not in repr(one)
    assert digest.hexdigest() not in repr(one)


GOOD = {"key": KEY, "scopes": ["read"]}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([], "a name for each key"),
        ({}, "a name for each key"),
        ({"a": 5}, "an object"),
        ({"a": {**GOOD, "key": "short"}}, "32 ASCII characters"),
        ({"a": {**GOOD, "key": KEY + " x"}}, "no space"),
        ({"a": {**GOOD, "key_sha256": "0" * 64}}, "either key or key_sha256"),
        ({"a": {"key_sha256": "0" * 63, "scopes": ["read"]}}, "64 hexadecimal digits"),
        ({"a": {"scopes": ["read"]}}, "either key or key_sha256"),
        ({"a": {"key": KEY}}, "scopes of a"),
        ({"a": {**GOOD, "scopes": ["everything"]}}, "scopes of a"),
        ({"a": {**GOOD, "scopes": [["read"]]}}, "scopes of a"),
        ({"a": {**GOOD, "rates": 5}}, "rates"),
        ({"a": {**GOOD, "rate": 0}}, "rate of a"),
        ({"a": {**GOOD, "rate": True}}, "rate of a"),
        ({"a": {**GOOD, "namespaces": []}}, "namespaces of a"),
        ({"a": GOOD, "b": GOOD}, "same key"),
        ({"a b": GOOD}, "letters, digits"),
    ],
    ids=str,
)
def test_keys_that_cannot_be_used_are_told_by_their_name(keys: object, told: str) -> None:
    with pytest.raises(BadApiKeys) as failed:
        parse(json.dumps(keys))
    assert told in str(failed.value)
    assert KEY not in str(failed.value)
