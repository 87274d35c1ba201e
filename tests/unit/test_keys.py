"""Which secrets are taken, and for which algorithms."""

from __future__ import annotations

import secrets
import time

import jwt
import pytest

from gateway.core.access import TokenRejected
from gateway.credentials import make_verifier
from gateway.settings import Settings
from gateway.web.auth import TokenVerifier
from gateway.web.keys import BadKey, load_key

# Tokens here are signed with short secrets on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

HMAC = ["HS256", "HS384", "HS512"]


def token(secret: str, algorithm: str) -> str:
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, secret, algorithm)


@pytest.mark.parametrize("secret", ["a", "short", "x" * 31, "é" * 15])
def test_a_secret_that_is_too_short_is_refused(secret: str) -> None:
    with pytest.raises(BadKey, match="GATEWAY_JWT_SECRET is too short: HS256 needs 32") as told:
        load_key(secret, None)
    assert f"it has {len(secret.encode())};" in str(told.value)


@pytest.mark.parametrize(
    "placeholder",
    [
        *("...", " ... ", "…", "A-string-secret-at-least-256-bits-long"),
        "the secret that the tokens are signed with",
    ],
)
def test_a_placeholder_of_documentation_is_refused(placeholder: str) -> None:
    with pytest.raises(BadKey, match="placeholder"):
        load_key(placeholder, None)


@pytest.mark.parametrize(
    "secret",
    [
        "a" * 46,
        "password" * 4,
        "changeme" * 8,
        "ChangeMe" * 8,
        "SECRETsecret" * 5,
        "1234567" * 9,
        "é" * 16,
    ],
)
def test_a_secret_of_few_different_characters_is_refused_however_long(secret: str) -> None:
    with pytest.raises(BadKey, match=r"can be guessed: it has . different.*openssl rand") as told:
        load_key(secret, None)
    assert secret not in str(told.value)


def test_what_openssl_makes_is_taken() -> None:
    for _ in range(20):
        for size in (16, 32, 64):
            load_key(secrets.token_hex(size), None)
            load_key(secrets.token_urlsafe(2 * size), None)


@pytest.mark.parametrize("size", [32, 47, 48, 63, 64, 500])
def test_only_algorithms_that_the_secret_is_long_enough_for_are_accepted(size: int) -> None:
    secret = "é" * 4 + ("abcdefgh" * size)[: size - 8]
    verifier = TokenVerifier(load_key(secret, None))
    for algorithm, needed in zip(HMAC, (32, 48, 64), strict=True):
        if size >= needed:
            assert verifier.verify(token(secret, algorithm)).user == "ann"
        else:
            with pytest.raises(TokenRejected, match="its alg is not accepted"):
                verifier.verify(token(secret, algorithm))


@pytest.mark.parametrize(("algorithm", "size"), [("HS384", 47), ("HS512", 63), ("HS512", 32)])
def test_an_algorithm_that_the_secret_is_too_short_for_is_refused_with_the_reason(
    algorithm: str, size: int
) -> None:
    key = load_key(("0123456789abcdef" * 4)[:size], None)
    with pytest.raises(
        BadKey, match=f"{algorithm} needs a secret of {int(algorithm[2:]) // 8} bytes"
    ):
        TokenVerifier(key, algorithms=["HS256", algorithm])


def test_a_foreign_algorithm_is_refused_without_a_word_about_length() -> None:
    with pytest.raises(BadKey, match=r"names RS256, but this key goes with HS256$"):
        TokenVerifier(load_key("0123456789abcdef" * 2, None), algorithms=["RS256"])


@pytest.mark.parametrize("algorithm", HMAC)
@pytest.mark.parametrize("secret", ["a", "...", "a" * 46])
def test_development_mode_takes_any_secret(secret: str, algorithm: str) -> None:
    verifier = TokenVerifier(load_key(secret, None, weak=True))
    assert verifier.verify(token(secret, algorithm)).user == "ann"


def test_only_development_mode_takes_any_secret_that_is_configured() -> None:
    weak = {"jwt_secret": "a"}
    assert make_verifier(Settings(**weak, development=True))
    with pytest.raises(BadKey, match="too short"):
        make_verifier(Settings(**weak))
