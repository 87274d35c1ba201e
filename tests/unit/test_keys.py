"""Which secrets are taken, and for which algorithms."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from jwt.algorithms import HMACAlgorithm

from gateway.core.access import TokenRejected
from gateway.credentials import make_verifier
from gateway.settings import Settings
from gateway.web.keys import BadKey, Key, public_key, secret_key
from tests.support.tokens import RSA_KEY, SECRET, public_pem, verifier

# Tokens here are signed with short secrets on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

HMAC = ["HS256", "HS384", "HS512"]


def token(secret: str, algorithm: str) -> str:
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, secret, algorithm)


@pytest.mark.parametrize("secret", ["a", "short", "x" * 31, "é" * 15])
def test_a_secret_that_is_too_short_is_refused(secret: str) -> None:
    with pytest.raises(BadKey, match="GATEWAY_JWT_SECRET is too short: HS256 needs 32") as told:
        secret_key(secret)
    assert f"it has {len(secret.encode())};" in str(told.value)


@pytest.mark.parametrize(
    "placeholder",
    [
        *("...", " ... ", "…", "A-string-secret-at-least-256-bits-long"),
        *("your-256-bit-secret-your-256-bit-secret", '"your-256-bit-secret"-for-realtime-gateway'),
        "the secret that the tokens are signed with",
    ],
)
def test_a_placeholder_of_documentation_is_refused(placeholder: str) -> None:
    with pytest.raises(BadKey, match="placeholder"):
        secret_key(placeholder)


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
        secret_key(secret)
    assert secret not in str(told.value)


def test_what_openssl_makes_is_taken() -> None:
    for _ in range(20):
        for size in (16, 32, 64):
            secret_key(secrets.token_hex(size))
            secret_key(secrets.token_urlsafe(2 * size))


@pytest.mark.parametrize("size", [32, 47, 48, 63, 64, 500])
def test_only_algorithms_that_the_secret_is_long_enough_for_are_accepted(size: int) -> None:
    secret = "é" * 4 + ("abcdefgh" * size)[: size - 8]
    judge = verifier(secret)
    for algorithm, needed in zip(HMAC, (32, 48, 64), strict=True):
        if size >= needed:
            assert judge.verify(token(secret, algorithm)).user == "ann"
        else:
            with pytest.raises(TokenRejected, match="its alg is not accepted"):
                judge.verify(token(secret, algorithm))


@pytest.mark.parametrize(("algorithm", "size"), [("HS384", 47), ("HS512", 63), ("HS512", 32)])
def test_an_algorithm_that_the_secret_is_too_short_for_is_refused_with_the_reason(
    algorithm: str, size: int
) -> None:
    secret = ("0123456789abcdef" * 4)[:size]
    with pytest.raises(
        BadKey, match=f"{algorithm} needs a secret of {int(algorithm[2:]) // 8} bytes"
    ):
        verifier(secret, jwt_algorithms=["HS256", algorithm])


def test_a_foreign_algorithm_is_refused_without_a_word_about_length() -> None:
    with pytest.raises(BadKey, match=r"names RS256, but this key goes with HS256$"):
        verifier("0123456789abcdef" * 2, jwt_algorithms=["RS256"])


@pytest.mark.parametrize("algorithm", HMAC)
@pytest.mark.parametrize("secret", ["a", "...", "a" * 46])
def test_development_mode_takes_any_secret(secret: str, algorithm: str) -> None:
    assert verifier(secret, development=True).verify(token(secret, algorithm)).user == "ann"


def test_only_development_mode_takes_any_secret_that_is_configured() -> None:
    weak = {"jwt_secret": "a"}
    assert make_verifier(Settings(**weak, development=True))
    with pytest.raises(BadKey, match="too short"):
        make_verifier(Settings(**weak))


def test_what_a_key_is_made_of_is_not_shown_with_it() -> None:
    secret = "0123456789abcdef" * 2
    key = secret_key(secret)
    assert secret not in f"{key!r} {key!s} {[key]}"
    assert isinstance(key, Key)


def test_a_public_key_given_as_a_secret_is_refused_with_where_it_goes() -> None:
    pem = public_pem(RSA_KEY)
    with pytest.raises(
        BadKey, match=r"SECRET holds a key of another kind.*into GATEWAY_JWT_PUBLIC_KEY"
    ):
        secret_key(pem)
    with pytest.raises(BadKey, match=r"into GATEWAY_JWT_KEYS\[3\].public_key"):
        secret_key(pem, "GATEWAY_JWT_KEYS[3].secret")


def test_secret_and_public_key_stand_side_by_side_and_verify_only_their_own_kind() -> None:
    pem = public_pem(RSA_KEY)
    judge = verifier(jwt_public_key=pem)
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    assert judge.verify(jwt.encode(claims, SECRET, "HS256")).user == "ann"
    assert judge.verify(jwt.encode(claims, RSA_KEY, "RS256")).user == "ann"
    # Whoever knows the public key, which is everybody, signs nothing with it (RFC 8725 §2.1).
    forged = jwt.PyJWS(algorithms=["HS256"])
    forged._algorithms["HS256"] = AnySecret(AnySecret.SHA256)
    with pytest.raises(TokenRejected, match="signature"):
        judge.verify(forged.encode(json.dumps(claims).encode(), pem, "HS256"))


class AnySecret(HMACAlgorithm):
    """PyJWT itself would not sign with a PEM."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key


def test_algorithms_are_shared_out_among_secret_and_public_key() -> None:
    pem = public_pem(RSA_KEY)
    judge = verifier(jwt_public_key=pem, jwt_algorithms=["HS256", "PS256"])
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    assert judge.verify(jwt.encode(claims, RSA_KEY, "PS256")).user == "ann"
    with pytest.raises(TokenRejected, match="its alg is not accepted"):
        judge.verify(jwt.encode(claims, RSA_KEY, "RS256"))
    with pytest.raises(BadKey, match=r"names ES256, but these keys go with HS256, PS256.*RS512$"):
        verifier(jwt_public_key=pem, jwt_algorithms=["HS256", "PS256", "ES256"])
    with pytest.raises(BadKey, match=r"leaves no algorithm for the key that goes with HS256"):
        verifier(jwt_public_key=pem, jwt_algorithms=["PS256"])


# -- public keys ------------------------------------------------------------------------------


def given_alone(pem: str) -> dict[str, str]:
    return {"jwt_public_key": pem}


def given_in_the_list(pem: str) -> dict[str, str]:
    return {"jwt_keys": json.dumps([{"public_key": pem}])}


@pytest.mark.parametrize("bits", [1024, 2047])
@pytest.mark.parametrize(
    ("given", "setting"),
    [
        (given_alone, "GATEWAY_JWT_PUBLIC_KEY"),
        (given_in_the_list, "GATEWAY_JWT_KEYS[0].public_key"),
    ],
)
@pytest.mark.parametrize("development", [False, True])
def test_an_rsa_key_that_can_be_factored_is_refused_wherever_it_is_given(
    bits: int, given: Any, setting: str, development: bool
) -> None:
    weak = public_pem(rsa.generate_private_key(65537, bits))
    told = f"{setting} is an RSA key of {bits} bits; it needs 2048 or more (RFC 7518 §3.3)"
    with pytest.raises(BadKey, match=re.escape(told)):
        make_verifier(Settings(**given(weak), development=development))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (ec.generate_private_key(ec.SECP224R1()), r"is on the curve secp224r1; .*secp256r1"),
        (x25519.X25519PrivateKey.generate(), "is of a kind that signs no tokens"),
    ],
)
def test_a_public_key_that_goes_with_no_algorithm_is_refused(key: Any, told: str) -> None:
    with pytest.raises(BadKey, match=f"GATEWAY_JWT_PUBLIC_KEY {told}"):
        public_key(public_pem(key))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("keys/rsa.pub", "write an @ before it"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "it is a private key, "),
        ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "it is a certificate; "),
        ("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----", "public key in PEM$"),
    ],
)
def test_what_is_given_in_the_place_of_a_public_key_is_named(given: str, told: str) -> None:
    with pytest.raises(BadKey, match=told):
        public_key(given)
