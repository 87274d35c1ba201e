"""What an identity provider publishes: a set of keys is read, or refused, whatever is in it."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import strategies as st

from gateway.web.key_fetching import NoKeys
from gateway.web.published_keys import read_set
from tests.support.identity_provider import published, rsa_key

_KEYS: Final[list[dict[str, Any]]] = [
    published(rsa_key("a"), kid="a", alg="RS256"),
    published(ec.generate_private_key(ec.SECP256R1()), kid="b"),
    published(ed25519.Ed25519PrivateKey.generate(), kid="c"),
    {"kty": "oct", "k": "AAAA", "kid": "d"},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"},
    {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
]


class KeySets:
    """A set holds keys for verifying, or there is none."""

    name = "key sets"
    corpus = tuple(
        json.dumps(each).encode()
        for each in (
            {"keys": _KEYS},
            *({"keys": [key]} for key in _KEYS),
            *({"keys": []}, {"keys": {}}, {"keys": [1, None, "x", []]}, []),
        )
    )
    words = (
        *(b'"kty":', b'"RSA"', b'"EC"', b'"OKP"', b'"oct"', b'"crv":', b'"P-521"', b'"Ed448"'),
        *(b'"n":', b'"e":', b'"x":', b'"d":', b'"alg":', b'"none"', b'"use":', b'"key_ops":[]'),
        *(b"null", b"{}", b"[]", b"1e400", b"=", b"_", b"\\ud800", b"\xff", b'"kid":', b'"keys":'),
    )
    structured = st.lists(
        st.dictionaries(
            st.sampled_from(
                ["kty", "crv", "n", "e", "x", "y", "alg", "use", "kid", "key_ops", "d"]
            ),
            st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig", "RS256", ""])
            | st.integers()
            | st.none()
            | st.lists(st.text(max_size=5), max_size=2),
        ),
        max_size=4,
    ).map(lambda keys: json.dumps({"keys": keys}).encode("utf-8", "surrogatepass"))

    def take(self, data: bytes, _dice: random.Random) -> None:
        """Let it read an input."""
        try:
            keys, unusable = read_set(data)
        except NoKeys:
            return
        assert keys
        assert unusable >= 0
        for each in keys:
            assert not {"none", "HS256"} & {*each.key.algorithms}
