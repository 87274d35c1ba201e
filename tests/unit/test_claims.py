"""Who a token says the client is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.access import ChannelPass, Identity, TokenRejected, identify, read_pass
from gateway.core.protocol import ErrorCode


def test_the_user_is_the_claim_that_names_it() -> None:
    assert identify({"sub": "user-123"}, "sub") == Identity("user-123")
    assert identify({"sub": "x", "uid": "user-9"}, "uid") == Identity("user-9")


@pytest.mark.parametrize("user", [None, "", 0, 1, True, [], ["user"], {}, b"user"])
def test_a_user_that_is_no_string_with_something_in_it_is_rejected(user: Any) -> None:
    with pytest.raises(TokenRejected, match="'sub'"):
        identify({"sub": user}, "sub")


def test_a_token_without_the_claim_is_rejected() -> None:
    with pytest.raises(TokenRejected, match="'uid'"):
        identify({"sub": "user-123"}, "uid")


def test_channels_are_taken_as_they_are() -> None:
    identity = identify({"sub": "u", "channels": ["a/b", "a/*", "a/b", ""]}, "sub")
    assert identity.channels == {"a/b", "a/*", ""}


@pytest.mark.parametrize(
    "channels", [None, "a/b", {"a/b": 1}, 1, True, [1], ["a/b", None], [["a"]]]
)
def test_channels_of_another_form_are_rejected(channels: Any) -> None:
    with pytest.raises(TokenRejected, match="channels"):
        identify({"sub": "u", "channels": channels}, "sub")


@pytest.mark.parametrize(("exp", "expected"), [(None, None), (1_700_000_000, 1.7e9), (1.5, 1.5)])
def test_the_end_of_the_token_is_in_seconds_or_never(exp: Any, expected: float | None) -> None:
    assert identify({"sub": "u", "exp": exp}, "sub").expires_at == expected


def test_a_token_without_exp_never_ends() -> None:
    assert identify({"sub": "u"}, "sub").expires_at is None


def test_a_rejection_says_what_the_client_is_told() -> None:
    assert TokenRejected("malformed").code is ErrorCode.TOKEN_INVALID
    assert TokenRejected("late", ErrorCode.TOKEN_EXPIRED).code is ErrorCode.TOKEN_EXPIRED


def test_a_tokens_id_and_age_are_known_of_its_user() -> None:
    identity = identify({"sub": "u", "jti": "t-1", "iat": 1_700_000_000.5}, "sub")
    assert (identity.token_id, identity.issued_at) == ("t-1", 1_700_000_000.5)
    plain = identify({"sub": "u", "jti": None, "iat": None}, "sub")
    assert (plain.token_id, plain.issued_at) == (None, None)


def test_an_id_that_is_a_number_is_its_digits() -> None:
    assert identify({"sub": "u", "jti": 17}, "sub").token_id == "17"


@pytest.mark.parametrize("jti", [True, 1.5, ["t"], {}, "\ud800"])
def test_an_id_that_nobody_could_name_is_rejected(jti: Any) -> None:
    with pytest.raises(TokenRejected, match="'jti'"):
        identify({"sub": "u", "jti": jti}, "sub")


@pytest.mark.parametrize("iat", ["1700000000", True, -1, float("nan"), 2**60, []])
def test_an_age_that_is_no_time_is_rejected(iat: Any) -> None:
    with pytest.raises(TokenRejected, match="'iat'"):
        identify({"sub": "u", "iat": iat}, "sub")


@pytest.mark.parametrize("claims", [{"sub": "\ud800"}, {"sub": "u", "exp": 10**400}])
def test_what_cannot_be_written_or_counted_is_rejected_and_no_other_error(claims: Any) -> None:
    with pytest.raises(TokenRejected):
        identify(claims, "sub")


# -- tokens for a channel -------------------------------------------------------------------------

PASS = {"sub": "u", "channel": "a/b", "exp": 100, "iat": 1, "jti": "j"}


def test_a_channel_token_allows_its_user_its_channel_until_its_end() -> None:
    assert read_pass(PASS, "sub", "u", "a/b", 5) == ChannelPass(105.0, "j", 1.0)
    assert read_pass({**PASS, "uid": "v"}, "uid", "v", "a/b") == ChannelPass(100.0, "j", 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        *({"sub": "v"}, {"sub": None}, {"sub": ["u"]}),
        *({"channel": "a/*"}, {"channel": "a/B"}, {"channel": None}, {"channel": ["a/b"]}),
        *({"exp": None}, {"exp": "100"}, {"jti": []}, {"iat": "1"}),
    ],
)
def test_a_channel_token_that_says_something_else_allows_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(TokenRejected):
        read_pass({**PASS, **changes}, "sub", "u", "a/b")
    for left_out in ("sub", "channel", "exp"):
        with pytest.raises(TokenRejected):
            read_pass({k: v for k, v in PASS.items() if k != left_out}, "sub", "u", "a/b")
