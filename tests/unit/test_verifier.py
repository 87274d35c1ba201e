"""What a verification costs: a secret is checked at the start, and not for each token."""

from __future__ import annotations

import time

import jwt
import pytest
from jwt.algorithms import HMACAlgorithm

from gateway.core.access import TokenRejected
from gateway.web.auth import TokenVerifier
from gateway.web.keys import load_key

SECRET = "a secret of more characters than the longest of the digests has bytes"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_is_not_checked_again_for_each_token(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    good = jwt.encode(claims, SECRET, algorithm)
    forged = jwt.encode(claims, SECRET[::-1], algorithm)
    verifier = TokenVerifier(load_key(SECRET, None))

    def checked_again(*_: object) -> bytes:
        raise AssertionError("the secret was checked again")

    monkeypatch.setattr(HMACAlgorithm, "prepare_key", checked_again)
    assert verifier.verify(good).user == "ann"
    with pytest.raises(TokenRejected, match="InvalidSignatureError"):
        verifier.verify(forged)


def test_a_missing_audience_is_logged_once_a_minute_and_with_the_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    times = [0.0, 0.0, 1.0, 59.0, 61.0]
    verifier = TokenVerifier(load_key(SECRET, None), clock=lambda: times.pop(0))
    claims = {"sub": "ann", "exp": int(time.time()) + 60, "aud": ["other-api", "x" * 1_000]}
    while times:
        with pytest.raises(TokenRejected, match="GATEWAY_JWT_AUDIENCE is not set"):
            verifier.verify(jwt.encode(claims, SECRET, "HS512"))
    with pytest.raises(TokenRejected, match="InvalidSignatureError"):
        verifier.verify(jwt.encode(claims, SECRET[::-1], "HS512"))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("setting=GATEWAY_JWT_AUDIENCE aud=['other-api'" in line for line in lines)
    assert all(len(line) < 200 for line in lines)


@pytest.mark.parametrize("audience", ["", [], [""], 5, {}])
def test_whatever_stands_in_aud_is_refused_where_no_audience_is_configured(
    audience: object,
) -> None:
    claims = {"sub": "ann", "exp": int(time.time()) + 60, "aud": audience}
    with pytest.raises(TokenRejected, match="aud"):
        TokenVerifier(load_key(SECRET, None)).verify(jwt.encode(claims, SECRET, "HS512"))
