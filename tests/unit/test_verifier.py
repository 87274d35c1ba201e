"""What a verification costs: a secret is checked at the start, and not for each token."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, tzinfo
from typing import Any

import jwt
import pytest
from jwt import api_jwt
from jwt.algorithms import HMACAlgorithm

from gateway.core.access import TokenRejected
from gateway.credentials import make_verifier
from gateway.logs import LineFormatter, as_logfmt
from gateway.settings import Settings
from tests.support.tokens import verifier

SECRET = "a secret of more characters than the longest of the digests has bytes"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_is_not_checked_again_for_each_token(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    good = jwt.encode(claims, SECRET, algorithm)
    forged = jwt.encode(claims, SECRET[::-1], algorithm)
    judge = verifier(SECRET)

    def checked_again(*_: object) -> bytes:
        raise AssertionError("the secret was checked again")

    monkeypatch.setattr(HMACAlgorithm, "prepare_key", checked_again)
    assert judge.verify(good).user == "ann"
    with pytest.raises(TokenRejected, match="its signature was not made with this key"):
        judge.verify(forged)


def test_a_missing_audience_is_logged_once_a_minute_and_with_the_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [0.0, 0.0, 1.0, 59.0, 61.0]
    judge = make_verifier(Settings(jwt_secret=SECRET), clock=lambda: times.pop(0))
    claims = {"sub": "ann", "exp": int(time.time()) + 60, "aud": ["other-api", "x" * 1_000]}
    while times:
        with pytest.raises(TokenRejected, match="GATEWAY_JWT_AUDIENCE is not set"):
            judge.verify(jwt.encode(claims, SECRET, "HS512"))
    with pytest.raises(TokenRejected, match="signature"):
        judge.verify(jwt.encode(claims, SECRET[::-1], "HS512"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("setting=GATEWAY_JWT_AUDIENCE aud=['other-api'" in line for line in lines)
    assert all(len(line) < 200 for line in lines)


def test_an_end_in_milliseconds_is_taken_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = int(time.time())
    never = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
    times = [0.0, 0.0, 1.0, 59.0, 61.0]
    judge = make_verifier(Settings(jwt_secret=SECRET), clock=lambda: times.pop(0))

    def show(exp: int) -> str:
        token = jwt.encode({"sub": "ann\n", "exp": exp}, SECRET, "HS512")
        assert judge.verify(token).expires_at == exp + 5
        return token

    show(never)
    assert caplog.messages == []
    tokens = [show((now + 60) * 1000) for _ in range(len(times))]
    lines = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    line = f"token_expiry_in_milliseconds user='ann\\n' exp={(now + 60) * 1000}"
    assert lines == [line] * 2
    assert all(each not in caplog.text for each in tokens)
    longest = Settings(jwt_secret=SECRET, jwt_max_lifetime_seconds=86_400)
    claims = {"sub": "ann", "iat": now, "exp": (now + 60) * 1000}
    with pytest.raises(TokenRejected, match="MAX_LIFETIME"):
        make_verifier(longest).verify(jwt.encode(claims, SECRET, "HS512"))


@pytest.mark.parametrize("audience", ["", [], [""], 5, {}])
def test_whatever_stands_in_aud_is_refused_where_no_audience_is_configured(
    audience: object,
) -> None:
    claims = {"sub": "ann", "exp": int(time.time()) + 60, "aud": audience}
    with pytest.raises(TokenRejected, match="aud"):
        verifier(SECRET).verify(jwt.encode(claims, SECRET, "HS512"))


def test_an_audience_is_quoted_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for audience in ("x", "an audience", ["x", "y"]):
        claims = {"sub": "ann", "exp": int(time.time()) + 60, "aud": audience}
        with pytest.raises(TokenRejected):
            verifier(SECRET).verify(jwt.encode(claims, SECRET, "HS512"))
    written = [LineFormatter(as_logfmt).format(record) for record in caplog.records]
    assert [line.partition(" aud=")[2] for line in written] == [
        "x",
        '"an audience"',
        "\"['x', 'y']\"",
    ]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no exp": ({"exp": None}, "claim 'exp' is missing"),
    "exp is text": ({"exp": "soon"}, "claim 'exp' must be a time in seconds since 1970"),
    "nbf is text": ({"nbf": "soon"}, "claim 'nbf' must be a time in seconds since 1970"),
    "nbf is ahead": ({"nbf": 2**40}, "its nbf is ahead"),
    "no aud": ({"aud": None}, "claim 'aud' is missing"),
    "another aud": ({"aud": "other"}, "claim 'aud' does not contain GATEWAY_JWT_AUDIENCE"),
    "aud is a number": ({"aud": 5}, "claim 'aud' does not contain GATEWAY_JWT_AUDIENCE"),
    "no iss": ({"iss": None}, "claim 'iss' is missing"),
    "another iss": ({"iss": "other"}, "claim 'iss' does not equal GATEWAY_JWT_ISSUER"),
    "no sub": ({"sub": None}, "claim 'sub' must be a string that is not empty"),
    "channels is text": ({"channels": "a/b"}, "claim 'channels' must be a list of strings"),
}


@pytest.mark.parametrize(("changes", "cause"), WRONG.values(), ids=WRONG)
def test_the_cause_of_a_rejection_names_the_claim_that_is_missing_or_wrong(
    changes: dict[str, Any], cause: str
) -> None:
    given = {"sub": "ann", "exp": int(time.time()) + 60, "aud": "us", "iss": "login", **changes}
    claims = {name: value for name, value in given.items() if value is not None}
    judge = verifier(SECRET, jwt_audience="us", jwt_issuer="login")
    with pytest.raises(TokenRejected) as told:
        judge.verify(signed(claims))
    assert str(told.value) == cause


def signed(claims: dict[str, Any]) -> str:
    """As any login may write it: PyJWT refuses to write some of these."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256")


@pytest.mark.parametrize(
    "token",
    [
        *("", "hidden", "hidden.hidden", "hidden.hidden.hidden", "é.hidden.x"),
        jwt.PyJWS().encode(b"hidden", SECRET, "HS256"),
        jwt.PyJWS().encode(b'["hidden"]', SECRET, "HS256"),
        jwt.PyJWS().encode(b"\xffhidden", SECRET, "HS256"),
        signed({"sub": "hidden", "exp": "hidden"}),
    ],
)
def test_the_cause_of_a_rejection_repeats_nothing_of_the_token(token: str) -> None:
    with pytest.raises(TokenRejected) as told:
        verifier(SECRET).verify(token)
    assert "hidden" not in str(told.value)
    assert " " in str(told.value)


DAY = 86_400.0
LONG: dict[str, tuple[dict[str, float | None], bool]] = {
    "a day": ({"iat": 0, "exp": DAY}, True),
    "a day and the leeway": ({"iat": 0, "exp": DAY + 5}, True),
    "more than a day": ({"iat": 0, "exp": DAY + 6}, False),
    "a day that began long ago": ({"iat": -DAY + 60, "exp": 60}, True),
    "two days that are nearly over": ({"iat": -2 * DAY + 60, "exp": 60}, False),
    "a day, of unknown age": ({"exp": DAY}, False),
    "two days, of unknown age": ({"exp": 2 * DAY}, False),
    "for ever": ({"iat": 0}, False),
    "a day, by a clock that is ahead": ({"iat": 300, "exp": DAY}, True),
    "an hour in ten years": ({"iat": 3_650 * DAY, "exp": 3_650 * DAY + 3_600}, False),
    "ten years, of an age in milliseconds": ({"iat": 1.7e12, "exp": 3_650 * DAY}, False),
}
"""Times are those from now on."""


@pytest.mark.parametrize(("times", "let_in"), LONG.values(), ids=LONG)
def test_a_token_that_lives_longer_than_tokens_may_is_refused(
    times: dict[str, float | None], let_in: bool
) -> None:
    now = float(int(time.time()))
    settings = Settings(jwt_secret=SECRET, jwt_max_lifetime_seconds=DAY, jwt_require_expiry=False)
    judge = make_verifier(settings, wall_clock=lambda: now)
    claims = {name: now + seconds for name, seconds in times.items() if seconds is not None}
    token = signed({"sub": "ann", **claims})
    if let_in:
        assert judge.verify(token).user == "ann"
    else:
        with pytest.raises(TokenRejected, match="GATEWAY_JWT_MAX_LIFETIME_SECONDS"):
            judge.verify(token)


@pytest.mark.parametrize(
    ("ahead", "believed"), [(-60, True), (5, True), (6, False), (1.7e12, False)]
)
def test_when_a_token_was_issued_is_believed_up_to_what_clocks_may_differ_by(
    ahead: float, believed: bool
) -> None:
    now = float(int(time.time()))
    judge = make_verifier(Settings(jwt_secret=SECRET), wall_clock=lambda: now)
    claims = {"sub": "ann", "channel": "a/b", "exp": now + 60, "iat": now + ahead}
    expected = now + ahead if believed else None
    assert judge.verify(signed(claims)).issued_at == expected
    token = jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256", {"typ": "channel+jwt"})
    assert judge.verify_pass(token, "ann", "a/b").issued_at == expected


def test_patterns_of_channels_can_be_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    claims = {"sub": "ann", "exp": 2**31, "channels": ["a/b", "a/*", "c/*"]}
    assert verifier(SECRET).verify(signed(claims)).channels == {"a/b", "a/*", "c/*"}
    judge = verifier(SECRET, jwt_channel_patterns=False)
    for _ in range(3):
        assert judge.verify(signed(claims)).channels == {"a/b"}
    assert judge.verify(signed({"sub": "ann", "exp": 2**31})).channels == frozenset()
    assert caplog.messages == ["channel_pattern_ignored setting=GATEWAY_JWT_CHANNEL_PATTERNS"]


@pytest.mark.parametrize(("after", "is_valid"), [(-0.1, True), (0.1, False)])
@pytest.mark.parametrize("again", [False, True])
def test_the_fraction_of_a_tokens_end_counts_as_at_the_end_of_its_connection(
    monkeypatch: pytest.MonkeyPatch, after: float, is_valid: bool, again: bool
) -> None:
    """RFC 7519 §2: a NumericDate may have one."""
    ends, leeway = 2_000_000_000.9, 5

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Now:
            return cls.fromtimestamp(ends + leeway + after, tz)

    judge = verifier(SECRET, jwt_leeway_seconds=leeway)
    if again:  # its header is known then
        judge.verify(jwt.encode({"sub": "ann", "exp": 2_000_000_000}, SECRET, "HS512"))
    monkeypatch.setattr(api_jwt, "datetime", Now)
    token = jwt.encode({"sub": "ann", "exp": ends}, SECRET, "HS512")
    if is_valid:
        assert judge.verify(token).expires_at == ends + leeway
    else:
        with pytest.raises(TokenRejected, match="expired"):
            judge.verify(token)
