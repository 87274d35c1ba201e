"""What an operator writes into GATEWAY_JWT_KEYS: it makes keys, or is refused in words that repeat nothing of it."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.credentials import make_verifier
from gateway.settings import Settings
from gateway.web.keys import BadKey
from tests.support.tokens import SECRET

_PEM: Final = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
_ISSUER: Final = {"issuer": "https://login.example/", "audience": "us"}
_KEYS: Final[list[dict[str, Any]]] = [
    {"secret": SECRET},
    {"secret": SECRET, "kid": "a", "until": "2030-01-01T00:00:00Z", "for": "channel"},
    {"public_key": _PEM, "kid": "b", "algorithms": ["ES256"], "until": 2_000_000_000},
    {"jwks_url": "https://login.example/jwks", **_ISSUER},
    {"jwks_url": "http://127.0.0.1:1/jwks", **_ISSUER, "for": "connection"},
    {"discovery": True, **_ISSUER, "algorithms": ["RS256", "ES256"]},
]
_SHOWN: Final = 8
"""So many characters of a secret in an error are no chance."""


class KeyLists:
    """A list makes a verifier, or there is a sentence about what is wrong with it."""

    name = "key lists"
    corpus = tuple(
        json.dumps(each).encode()
        for each in (
            _KEYS,
            *([key] for key in _KEYS),
            *([], {}, [1], [None], [{}], [{"secret": ""}], [{"until": 1e400, "secret": SECRET}]),
        )
    )
    words = (
        *(b'"secret":', b'"public_key":', b'"jwks_url":', b'"discovery":', b'"kid":', b'"for":'),
        *(b'"issuer":', b'"audience":', b'"algorithms":[', b'"until":', b'"none"', b'"HS256"'),
        *(
            b"true",
            b"false",
            b"null",
            b"{}",
            b"[]",
            b"1e400",
            b"NaN",
            b"\\ud800",
            b"\xff",
            b"[" * 99,
        ),
        *(
            b'"https://"',
            b'"https://[/"',
            b'"https://u@h/"',
            b'"http://h"',
            b'"0001-01-01T00:00:00Z"',
        ),
    )
    structured = st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    *("secret", "public_key", "jwks_url", "discovery", "kid", "issuer"),
                    *("audience", "algorithms", "until", "for"),
                ]
            ),
            st.sampled_from(
                [SECRET, _PEM, "https://h/", "channel", "HS256", "2030-01-01T00:00:00Z", True]
            )
            | st.integers()
            | st.floats()
            | st.none()
            | st.lists(st.sampled_from(["HS256", "ES256", "none"]) | st.text(max_size=5)),
        ),
        max_size=4,
    ).map(lambda keys: json.dumps(keys).encode("utf-8", "surrogatepass"))

    def take(self, data: bytes, _dice: random.Random) -> None:
        """Let it read an input."""
        text = data.decode("utf-8", "replace")
        if "@" in text:
            return  # what names a file is read from there
        try:
            keys = make_verifier(Settings(jwt_keys=text)).keys
        except (BadKey, ValidationError) as error:
            assert SECRET[:_SHOWN] not in str(error)
            return
        assert keys
