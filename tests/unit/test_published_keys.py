"""Which keys of a set that an issuer publishes are used, and for what."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from gateway.web.key_fetching import NoKeys
from gateway.web.published_keys import read_set
from tests.support.identity_provider import as_json, published, rsa_key

GOOD = published(rsa_key("a"), kid="a")
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()
USED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "RSA": (GOOD, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    "RSA for one algorithm": ({**GOOD, "alg": "PS384"}, ("PS384",)),
    "without use": ({k: v for k, v in GOOD.items() if k != "use"}, ("RS256",)),
    "for verifying": ({**GOOD, "key_ops": ["verify", "sign"]}, ("RS256",)),
    "without a name": ({k: v for k, v in GOOD.items() if k != "kid"}, ("RS256",)),
    "an elliptic curve": (published(P521, kid="a"), ("ES512",)),
    "Ed25519": (published(ED, kid="a"), ("EdDSA",)),
}


@pytest.mark.parametrize(("key", "algorithms"), USED.values(), ids=USED)
def test_a_key_goes_with_the_algorithms_of_its_kind(
    key: dict[str, Any], algorithms: tuple[str, ...]
) -> None:
    ((found,), unusable) = read_set(as_json(key))
    assert found.key.algorithms[: len(algorithms)] == algorithms
    assert found.kid == key.get("kid")
    assert unusable == 0


def private() -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(rsa_key("a"), as_dict=True), "key_ops": ["verify"], "kid": "a"}


UNUSED: dict[str, Any] = {
    "for encryption": {**GOOD, "use": "enc"},
    "for signing only": {**GOOD, "key_ops": ["sign"]},
    "operations as text": {**GOOD, "key_ops": "verify"},
    "a secret": {"kty": "oct", "k": "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA", "kid": "a"},
    "a private key": private(),
    "for an algorithm of another kind": {**GOOD, "alg": "HS256"},
    "for encrypting keys": {**GOOD, "alg": "RSA-OAEP"},
    "for an algorithm that is none": {**GOOD, "alg": ["RS256"]},
    "short": published(rsa.generate_private_key(65537, 1024), kid="a"),
    "of an unknown kind": {"kty": "AKP", "kid": "a"},
    "without a kind": {"kid": "a"},
    "without its number": {k: v for k, v in GOOD.items() if k != "n"},
    "its number is none": {**GOOD, "n": 5},
    "its number is not base64": {**GOOD, "n": "é"},
    "its name is a number": {**GOOD, "kid": 5},
    "on no known curve": {**published(P521, kid="a"), "crv": "P-192"},
    "not on its curve": {**published(P521, kid="a"), "x": published(P521)["y"]},
    "no object": "a",
    "nothing": None,
}


@pytest.mark.parametrize("key", UNUSED.values(), ids=UNUSED)
def test_a_key_that_verifies_no_signature_is_left_out(key: Any) -> None:
    ((found,), unusable) = read_set(as_json(key, GOOD))
    assert found.kid == "a"
    assert unusable == 1
    with pytest.raises(NoKeys, match="no key in the set verifies signatures"):
        read_set(as_json(key))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "no set of keys"),
        (b"{}", "no set of keys"),
        (b'{"issuer": "a", "jwks_uri": "b"}', "a discovery document"),
        (b'{"keys": {}}', "no set of keys"),
        (b'{"keys": []}', "no key in the set"),
        # Its keys are new in each process, and pytest-xdist wants the same names in all.
        pytest.param(as_json(*[GOOD] * 101), "more than 100 keys", id="101 keys"),
    ],
)
def test_what_is_no_set_is_none(body: bytes, why: str) -> None:
    with pytest.raises(NoKeys, match=why):
        read_set(body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3)
)


@given(
    st.dictionaries(st.sampled_from([*GOOD, "crv", "x", "y", "key_ops", "alg", "d"]), _JSON),
    st.sampled_from([GOOD, published(P521), published(ED)]),
)
def test_whatever_is_published_is_read_or_left_out(
    changes: dict[str, Any], key: dict[str, Any]
) -> None:
    body = json.dumps({"keys": [{**key, **changes}]}).encode("utf-8", "surrogatepass")
    with contextlib.suppress(NoKeys):
        read_set(body)
