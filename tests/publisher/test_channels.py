from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from publisher.contract.channels import (
    DEFAULT_NAMESPACES,
    MAX_RETENTION,
    Channel,
    Namespace,
    Owner,
    Presence,
    Retention,
    configured,
    parse_channel,
)
from publisher.errors import InvalidChannel, InvalidNamespace


@pytest.mark.parametrize(
    "name",
    [
        "run-results/session-123",
        "notifications/user@example.com",
        "a/b",
        "A.b_c:d@e-f/0",
        "a/b/c",
        "a//",
        "a/ ",
        "a/{b}c}",
        "a/é",
        "a/e\u0301",
        "a/*",
        "a/😀",
        "a/\u2028",
    ],
)
def test_a_channel_is_a_namespace_and_an_id(name: str):
    namespace, _, id_ = name.partition("/")
    assert parse_channel(name) == Channel(name, namespace, id_)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a",
        "a/",
        "/b",
        "a/b\n",
        "a/\x00b",
        "a/b\x7f",
        "a/\x85b",
        "a/b\ud800",
        "a /b",
        "é/b",
        "{a}/b",
        "*/b",
        "a,/b",
        1,
        None,
        b"a/b",
    ],
)
def test_any_other_form_is_refused_with_the_name_in_the_error(name: object):
    with pytest.raises(InvalidChannel) as caught:
        parse_channel(name)  # type: ignore[arg-type]
    assert caught.value.channel == name
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("letter", ["x", "ü", "张", "😀"])
def test_a_name_of_255_bytes_is_accepted_and_one_of_256_is_not(letter: str):
    count, rest = divmod(253, len(letter.encode()))
    name = "n/" + letter * count + "x" * rest
    assert parse_channel(name).name == name
    with pytest.raises(InvalidChannel):
        parse_channel(name + "x")


_ANY = st.characters(exclude_categories=[])
_IDS = st.text(_ANY | st.sampled_from("/{}*\x00\x85"))


@given(st.text(_ANY) | st.builds("{}/{}".format, st.text("aZ0._:@-é ", max_size=4), _IDS))
def test_a_name_is_a_namespace_then_a_slash_then_anything_but_control_characters(name: str):
    namespace, slash, id_ = name.partition("/")
    allowed = (
        re.fullmatch("[A-Za-z0-9._:@-]+", namespace)
        and slash
        and id_
        and not any(unicodedata.category(each) in ("Cc", "Cs") for each in id_)
        and len(name.encode()) <= 255
    )
    if allowed:
        assert parse_channel(name) == Channel(name, namespace, id_)
    else:
        with pytest.raises(InvalidChannel):
            parse_channel(name)


@pytest.mark.parametrize("limit", [0, -1, MAX_RETENTION + 1, True, 1.5, "1", None])
def test_retention_takes_two_positive_integers(limit: object):
    with pytest.raises(InvalidNamespace):
        Retention(limit, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidNamespace):
        Retention(1, limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "namespace",
    [
        *DEFAULT_NAMESPACES.values(),
        Namespace("ticker", Owner.ANYONE, None),
        Namespace("orders", Owner.GRANT, Retention(1, 2)),
        Namespace("rooms", presence=Presence()),
        Namespace("rooms", retention=None, presence=Presence(announce=True, max_members=5)),
    ],
)
def test_a_namespace_survives_being_written_and_read(namespace: Namespace):
    assert Namespace.from_dict(namespace.name, namespace.to_dict()) == namespace


def test_a_namespace_of_no_rules_is_granted_and_logged():
    assert Namespace.from_dict("orders", {}) == Namespace("orders")


@pytest.mark.parametrize(
    ("rule", "presence"),
    [
        (True, Presence(announce=False, max_members=1_000)),
        ({}, Presence()),
        ({"announce": True}, Presence(announce=True, max_members=1_000)),
        ({"max_members": 5}, Presence(announce=False, max_members=5)),
        (False, None),
    ],
)
def test_what_is_left_out_of_presence_is_as_by_default(rule: object, presence: Presence | None):
    found = Namespace.from_dict("rooms", {"presence": rule})
    assert found.presence == presence
    # Older versions read what is announced of a namespace without it.
    assert ("presence" in found.to_dict()) is (presence is not None)


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ({"owners": "user"}, "owners"),
        ({"owner": "nobody"}, "'user', 'grant', 'anyone'"),
        ({"owner": ["user"]}, "owner must be"),
        ({"retention": 5}, "retention must be"),
        ({"retention": {"max_messages": 5}}, "retention must be"),
        ({"retention": {"max_messages": 5, "max_age_seconds": 1.5}}, "retention must be"),
        ({"retention": {"max_messages": True, "max_age_seconds": 1}}, "retention must be"),
        ({"retention": {"max_messages": 0, "max_age_seconds": 1}}, "from 1"),
        ({"presence": 1}, "presence must be"),
        ({"presence": None}, "presence must be"),
        ({"presence": {"members": 5}}, "presence must be"),
        ({"presence": {"announce": 1}}, "presence needs"),
        ({"presence": {"max_members": 0}}, "presence needs"),
    ],
)
def test_rules_that_cannot_be_used_are_named(rules: dict[str, object], complaint: str):
    with pytest.raises(InvalidNamespace, match=complaint):
        Namespace.from_dict("orders", rules)


def test_a_namespace_may_not_hold_a_slash():
    with pytest.raises(InvalidNamespace):
        Namespace("a/b")


def test_the_defaults_are_those_of_the_specification():
    assert {name: each.to_dict() for name, each in DEFAULT_NAMESPACES.items()} == {
        "notifications": {
            "owner": "user",
            "retention": {"max_messages": 1_000, "max_age_seconds": 7 * 86_400},
        },
        "run-results": {
            "owner": "grant",
            "retention": {"max_messages": 200, "max_age_seconds": 86_400},
        },
    }


@pytest.mark.parametrize(
    ("name", "rules", "owner", "retention"),
    [
        ("notifications", {"encrypted": True}, Owner.USER, Retention(1_000, 7 * 86_400)),
        ("notifications", {"retention": None}, Owner.USER, None),
        ("run-results", {"encrypted": True}, Owner.GRANT, Retention(200, 86_400)),
        ("run-results", {"owner": "anyone"}, Owner.ANYONE, Retention(200, 86_400)),
        ("lessons", {"encrypted": True}, Owner.GRANT, Retention(1_000, 7 * 86_400)),
    ],
)
def test_what_is_left_out_of_a_default_namespace_stays_as_it_is(
    name: str, rules: dict[str, Any], owner: Owner, retention: Retention | None
) -> None:
    found = configured(name, rules)
    assert (found.owner, found.retention) == (owner, retention)
    assert found.encrypted is rules.get("encrypted", False)
