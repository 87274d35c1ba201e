"""What a verification costs: a secret is checked at the start, and not for each token."""

from __future__ import annotations

import time

import jwt
import pytest
from jwt.algorithms import HMACAlgorithm

from gateway.core.access import TokenRejected
from gateway.web.auth import TokenVerifier, load_key

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
