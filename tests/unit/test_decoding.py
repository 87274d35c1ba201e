"""A header that is known spares PyJWT work, and changes nothing about which tokens are let in, and why others are not."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from gateway.core.access import Identity, TokenRejected
from gateway.core.protocol import ErrorCode
from gateway.web.auth import TokenVerifier
from tests.support.tokens import RSA_KEY, public_pem, verifier

SECRET = "a secret of more characters than the longest of the digests has bytes"
SIGNERS: dict[str, Any] = {
    **dict.fromkeys(["HS256", "HS384", "HS512"], SECRET),
    **dict.fromkeys(["RS256", "PS384"], RSA_KEY),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"sub": "ann", "exp": 2**31, "channels": ["run-results/1"], "jti": "a"}


def fresh(algorithm: str = "HS256", **options: Any) -> TokenVerifier:
    key = SIGNERS[algorithm]
    if key is SECRET:
        return verifier(SECRET, **options)
    return verifier(None, jwt_public_key=public_pem(key), **options)


def signed(payload: bytes, algorithm: str = "HS256", headers: dict[str, Any] | None = None) -> str:
    return jwt.PyJWS().encode(payload, SIGNERS[algorithm], algorithm, headers)


def experienced(algorithm: str = "HS256", **options: Any) -> TokenVerifier:
    """One that knows the header of the tokens."""
    judge = fresh(algorithm, **options)
    claims = {"aud": "us", "iss": "login"} if options else {}
    judge.verify(signed(json.dumps({**CLAIMS, **claims}).encode(), algorithm))
    return judge


Judgement = Identity | tuple[str, ErrorCode]


def judged(judge: TokenVerifier, token: str) -> Judgement:
    try:
        return judge.verify(token)
    except TokenRejected as rejected:
        return str(rejected), rejected.code


GOOD = signed(json.dumps(CLAIMS).encode())
HEAD, BODY, MAC = GOOD.split(".")


def with_header(text: bytes) -> str:
    """Genuine, with this header as it is."""
    start = base64url_encode(text) + b"." + BODY.encode()
    mac = jwt.get_algorithm_by_name("HS256").sign(start, SECRET.encode())
    return (start + b"." + base64url_encode(mac)).decode()


def other_end(text: str) -> str:
    """The same octets in base64url, with other bits where none count."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) ^ 1]


ODD: dict[str, str] = {
    "genuine": GOOD,
    "nothing": "",
    "no dots": HEAD,
    "no signature": f"{HEAD}.{BODY}",
    "an empty signature": f"{HEAD}.{BODY}.",
    "no claims": f"{HEAD}..{MAC}",
    "four parts": f"{GOOD}.{MAC}",
    "another user's claims": f"{HEAD}.{base64url_encode(b'{}').decode()}.{MAC}",
    "a padded signature": f"{GOOD}=",
    "too much padding": f"{GOOD}===",
    "a signature with other bits at its end": f"{HEAD}.{BODY}.{other_end(MAC)}",
    "a signature with a space": f"{HEAD}.{BODY}.{MAC[:5]} {MAC[5:]}",
    "a signature in plain base64": f"{HEAD}.{BODY}.{MAC.replace('-', '+').replace('_', '/')}",
    "no ASCII": f"{HEAD}.{BODY}.é{MAC[1:]}",
    "half a surrogate pair": f"{HEAD}.\ud800{BODY}.{MAC}",
    "a header with white space": with_header(b' {"alg": "HS256"}'),
    "no algorithm": with_header(b'{"alg":"none"}'),
    "another algorithm": with_header(b'{"alg":"HS512"}'),
    "a critical extension": with_header(b'{"alg":"HS256","crit":["exp"]}'),
    "a payload that is not encoded": with_header(b'{"alg":"HS256","b64":false,"crit":["b64"]}'),
    "a kid that is a number": with_header(b'{"alg":"HS256","kid":5}'),
    **{
        payload.decode("ascii", "backslashreplace"): signed(payload)
        for payload in (
            b"",
            b"[]",
            b"ann",
            b'{"sub":"ann","exp":2147483648',
            b'{"sub":"eve","sub":"ann","exp":2147483648}',
            b'{"sub":"ann","exp":NaN}',
            b'{"sub":"ann","exp":Infinity}',
            b'{"sub":"ann","exp":1e400}',
            b'{"sub":"ann","exp":-1}',
            b'{"sub":"ann","exp":null}',
            b'{"sub":"ann","exp":true}',
            b'{"sub":"ann","exp":"2147483648"}',
            b'{"sub":"ann","exp":1900000000.5}',
            b'{"sub":"ann","exp":' + b"9" * 30 + b"}",
            b'{"sub":"ann","exp":2147483648,"nbf":' + b"9" * 30 + b"}",
            b'{"sub":"ann","exp":2147483648,"other":NaN}',
            b'{"sub":"ann","exp":2147483648,"other":"\\ud800"}',
            b'{"sub":"\\ud800","exp":2147483648}',
            b'{"sub":"\xed\xa0\x80","exp":2147483648}',
            b'{"sub":"ann","exp":2147483648,"other":"\xff"}',
            b'\xef\xbb\xbf{"sub":"ann","exp":2147483648}',
            '{"sub":"ann","exp":2147483648}'.encode("utf-16"),
            b'{"sub":"ann","exp":2147483648,"jti":5}',
            b'{"sub":"ann","exp":2147483648,"aud":"other"}',
            b'{"sub":"ann","exp":2147483648,"iss":5}',
            b'{"sub":"ann","exp":2147483648,"nested":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        )
    },
}


@pytest.mark.parametrize(
    "options", [{}, {"jwt_audience": "us", "jwt_issuer": "login"}], ids=["", "us"]
)
@pytest.mark.parametrize("token", ODD.values(), ids=[name[:60] for name in ODD])
def test_a_token_is_judged_alike_whether_its_header_is_known_or_not(
    token: str, options: dict[str, str]
) -> None:
    judge = experienced(**options)
    expected = judged(fresh(**options), token)
    assert judged(judge, token) == expected
    # The first one may have made its header known.
    assert judged(judge, token) == expected


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_whatever_stands_in_the_place_of_a_character_a_token_is_judged_alike(
    place: int, other: str
) -> None:
    token = GOOD[:place] + other + GOOD[place + 1 :]
    assert judged(experienced(), token) == judged(fresh(), token)


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_pyjwt_reads_the_header_of_a_login_once(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    judge = experienced(algorithm)

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("PyJWT has read the header again")

    monkeypatch.setattr(jwt.PyJWT, "decode", read_again)
    monkeypatch.setattr(jwt, "get_unverified_header", read_again)
    later = {**CLAIMS, "sub": "bob", "exp": int(time.time()) + 60}
    token = signed(json.dumps(later).encode(), algorithm)
    assert judge.verify(token).user == "bob"
    head, body, mac = token.split(".")
    swapped = mac[:20] + ("A" if mac[20] != "A" else "B") + mac[21:]
    with pytest.raises(TokenRejected, match="its signature was not made with this key"):
        judge.verify(f"{head}.{body}.{swapped}")
    with pytest.raises(TokenRejected, match="expired"):
        judge.verify(signed(b'{"sub":"bob","exp":1}', algorithm))


def test_only_headers_of_genuine_tokens_are_remembered_and_only_so_many() -> None:
    judge = fresh()
    (entry,) = judge.keys._entries
    known, chosen = entry.source._known, judge.keys._known
    for number in range(100):
        token = signed(json.dumps(CLAIMS).encode(), headers={"kid": f"k{number}"})
        head, body, _ = token.split(".")
        with pytest.raises(TokenRejected):
            judge.verify(f"{head}.{body}.{MAC}")
    assert not known
    assert not chosen
    for number in range(100):
        token = signed(json.dumps(CLAIMS).encode(), headers={"kid": f"k{number}"})
        assert judge.verify(token).user == "ann"
    assert len(known) == len(chosen) == 64
