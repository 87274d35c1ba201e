"""Tokens: one is accepted only if its signature was made with the key that verifies it, whatever else is in it."""

from __future__ import annotations

import hmac
import json
import random
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from gateway.core.access import Decision, Identity, TokenRejected, decide
from gateway.core.protocol import ErrorCode
from gateway.web.auth import TokenVerifier
from publisher.contract.channels import DEFAULT_NAMESPACES, parse_channel
from tests.support.tokens import SECRET
from tests.support.tokens import verifier as verifier_of

_SOON: Final = int(time.time()) + 1_000_000
_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
_CHANNEL_HEADER: Final = b'{"alg":"HS256","typ":"channel+jwt"}'
_CHANNEL: Final = "run-results/a"
_OTHERS: Final = parse_channel("notifications/somebody-else")
_CODES: Final = {
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.TOKEN_NOT_YET_VALID,
}

_CLAIMS: Final[list[dict[str, Any]]] = [
    {"sub": "user-123", "exp": _SOON},
    {"sub": "auth0|张三", "exp": _SOON + 0.5, "iat": _SOON, "nbf": 0, "jti": "j1"},
    {"sub": "u", "exp": _SOON, "channels": ["run-results/a", "run-results/*"]},
    {"sub": "u", "exp": _SOON, "aud": ["mine", "other"], "iss": "https://login.example/"},
    {"sub": "u", "exp": 1},
    {"sub": "u", "exp": _SOON, "nbf": _SOON},
    {"sub": "u", "exp": True},
    {"sub": "u", "exp": 1e308},
    {"sub": "u", "exp": "soon"},
    {"sub": 5, "exp": _SOON},
    {"exp": _SOON},
    {"sub": "u", "exp": _SOON, "channels": "run-results/*"},
]


def _part(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def _signed(header: bytes, claims: bytes, secret: str) -> str:
    """A token with any header and any claims, and a signature by HMAC with SHA-256."""
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_part(hmac.digest(secret.encode(), signed.encode(), sha256))}"


class Tokens:
    """One verifier of each kind of key, and one with several keys. A token is an input, or an input is a token's claims or its header.

    An input that begins with a letter is a token. Others are signed, so that they are read beyond the signature.
    """

    name = "tokens"
    words = (
        *(b".", b"=", b"==", b"-", b"_", b"+", b"/", b" ", b"\n", b"\x80", b"eyJ", b"e30", b"W10"),
        *(b'"alg":"none"', b'"alg":"HS256"', b'"alg":"HS512"', b'"alg":["HS256"]', b'"b64":false'),
        *(
            b'"crit":["x"]',
            b'"crit":[]',
            b'"typ":"JWE"',
            b'"zip":"DEF"',
            b'"jwk":{}',
            b'"kid":"../x"',
        ),
        *(b'"exp":', b'"nbf":', b'"iat":', b'"sub":', b'"aud":', b'"iss":', b'"channels":[', b"]"),
        *(
            b"NaN",
            b"Infinity",
            b"1e999",
            b"-1",
            b"\\ud800",
            b"\\u0000",
            b"null",
            b"{",
            b"[" * 2_000,
        ),
    )
    structured = st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "channels", "jti"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=10)
        | st.lists(st.text(max_size=10) | st.integers(), max_size=3),
    ).map(lambda claims: json.dumps(claims).encode("utf-8", "surrogatepass"))

    def __init__(self) -> None:
        rsa_key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        ec_key = ec.generate_private_key(ec.SECP256R1())
        ed_key = ed25519.Ed25519PrivateKey.generate()
        pems = {
            name: key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
            for name, key in (("RS256", rsa_key), ("ES256", ec_key), ("EdDSA", ed_key))
        }
        self._verifiers = {"HS256": verifier_of(jwt_leeway_seconds=0)}
        self._verifiers |= {
            name: verifier_of(None, jwt_public_key=pem) for name, pem in pems.items()
        }
        listed = [
            {"secret": SECRET},
            {"public_key": pems["RS256"], "kid": "r1", "until": _SOON},
            {"public_key": pems["ES256"], "issuer": "https://login.example/", "audience": "mine"},
            {"public_key": pems["EdDSA"], "for": "channel"},
        ]
        self._several = verifier_of(None, jwt_keys=json.dumps(listed))
        keys: dict[str, Any] = {
            "HS256": SECRET,
            "RS256": rsa_key,
            "ES256": ec_key,
            "EdDSA": ed_key,
        }
        tokens = {
            name: [
                jwt.encode(claims, key, name, headers={"kid": "r1"} if name == "RS256" else {})
                for claims in _CLAIMS[:4]
            ]
            for name, key in keys.items()
        }
        self._genuine = {
            name: {token.rpartition(".")[0] for token in each} for name, each in tokens.items()
        }
        channel = json.dumps({"sub": "u", "channel": _CHANNEL, "exp": _SOON}).encode()
        passed = _signed(_CHANNEL_HEADER, channel, SECRET)
        self._passes = {passed.rpartition(".")[0]}
        # RFC 8725 §2.1: a public key that is taken for a secret.
        confused = [_signed(_HEADER, json.dumps(_CLAIMS[0]).encode(), pem) for pem in pems.values()]
        unsigned = _part(b'{"alg":"none"}') + "." + _part(json.dumps(_CLAIMS[0]).encode()) + "."
        texts = [
            *(token for each in tokens.values() for token in each),
            *confused,
            unsigned,
            passed,
        ]
        claims = [json.dumps(each).encode() for each in _CLAIMS]
        self.corpus = (*map(str.encode, texts), *claims, _HEADER)

    def take(self, data: bytes, dice: random.Random) -> None:
        """Let it read an input."""
        if data[:1].isalpha():
            # A token is text by the time that it is looked at: latin-1 in a header, UTF-8 in a query or a message.
            token = data.decode(dice.choice(("latin-1", "utf-8")), "replace")
            for name, verifier in self._verifiers.items():
                if _verify(verifier, token) is not None:
                    assert token.rpartition(".")[0] in self._genuine[name], "it was not signed"
            if _opens(self._verifiers["HS256"], token):
                assert token.rpartition(".")[0] in self._passes, "it is no channel token"
            if _verify(self._several, token) is not None:
                signed = token.rpartition(".")[0]
                assert any(signed in each for each in self._genuine.values()), "it was not signed"
                assert signed not in self._genuine["EdDSA"], "that key is for channels"
            return
        as_claims = dice.random() < 0.8
        header, claims = (_HEADER, data) if as_claims else (data, b'{"sub":"u","exp":%d}' % _SOON)
        identity = _verify(self._verifiers["HS256"], _signed(header, claims, SECRET))
        if identity is not None:
            _check(identity)
        assert _verify(self._verifiers["HS256"], _signed(header, claims, SECRET[::-1])) is None
        if as_claims:
            _opens(self._verifiers["HS256"], _signed(_CHANNEL_HEADER, claims, SECRET))


def _verify(verifier: TokenVerifier, token: str) -> Identity | None:
    try:
        return verifier.verify(token)
    except TokenRejected as rejected:
        assert rejected.code in _CODES
        return None


def _opens(verifier: TokenVerifier, token: str) -> bool:
    """Whether it opens a channel to a user."""
    try:
        verifier.verify_pass(token, "u", _CHANNEL)
    except TokenRejected as rejected:
        assert rejected.code in _CODES
        return False
    return True


def _check(identity: Identity) -> None:
    """Whoever it is, they are somebody, and hear what is theirs."""
    assert identity.user.encode()
    assert all(isinstance(each, str) for each in identity.channels)
    assert identity.expires_at is None or identity.expires_at > time.time()
    theirs = identity.user == _OTHERS.id
    expected = Decision.ALLOWED if theirs else Decision.DENIED
    assert decide(identity, _OTHERS, DEFAULT_NAMESPACES) is expected
