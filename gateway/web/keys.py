"""The key that tokens are verified with, and what it is good for."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256, sha384, sha512
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

_HMAC: Final = {"HS256": sha256, "HS384": sha384, "HS512": sha512}
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""What a secret must have at least, for each algorithm (RFC 7518 §3.2)."""
_PLACEHOLDERS: Final = frozenset(
    [
        *("...", "…", "the secret that the tokens are signed with"),
        *("your-256-bit-secret", "a-string-secret-at-least-256-bits-long"),
    ]
)
"""What stands in the place of a secret in documentation: ours, and that of jwt.io."""
_FEWEST_CHARACTERS: Final = 8
"""Different ones, capitals and small letters being the same. A word that is repeated until it is long enough has fewer; of
32 random hexadecimal digits, fewer than one set in twenty million has."""
_MAKE_ONE: Final = "make one with: openssl rand -hex 32"
_EC_CURVES: Final = {
    "secp256r1": "ES256",
    "secp384r1": "ES384",
    "secp521r1": "ES512",
    "secp256k1": "ES256K",
}


class BadKey(Exception):
    """The configured key cannot verify tokens, or anybody could guess it."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the algorithms that go with its kind, and with no other."""

    material: Any = field(repr=False)
    algorithms: tuple[str, ...]

    def narrowed(self, algorithms: Sequence[str]) -> Key:
        """The same key for these algorithms only; all of its own where none are named.

        Raises:
            BadKey: it does not go with one of them.
        """
        foreign = sorted(set(algorithms) - set(self.algorithms))
        if foreign:
            told = (
                f"GATEWAY_JWT_ALGORITHMS names {', '.join(foreign)}, "
                f"but this key goes with {', '.join(self.algorithms)}"
            )
            if isinstance(self.material, str) and (needed := _SECRET_BYTES.get(foreign[-1])):
                told += f"; {foreign[-1]} needs a secret of {needed} bytes (RFC 7518 §3.2)"
            raise BadKey(told)
        return Key(self.material, tuple(algorithms)) if algorithms else self


def load_key(secret: str | None, public_key: str | None, *, weak: bool = False) -> Key:
    """Make a key of an HMAC secret or of a public key in PEM; exactly one of them.

    The algorithms follow from the kind of the key: a public key can never be taken for an HMAC secret
    (RFC 8725 §3.1), and ``none`` is not among them. A secret goes with those that it is long enough for.

    Args:
        secret: for HMAC.
        public_key: in PEM.
        weak: take any secret for any algorithm, as development mode does.

    Raises:
        BadKey: neither or both, a secret that is too short, can be guessed or is a placeholder, or no PEM of a kind
            that signs tokens.
    """
    if secret and public_key:
        raise BadKey("set GATEWAY_JWT_SECRET or GATEWAY_JWT_PUBLIC_KEY, not both")
    if secret:
        return Key(secret, tuple(_HMAC) if weak else _algorithms_of(secret))
    if not public_key:
        raise BadKey("set GATEWAY_JWT_SECRET, or GATEWAY_JWT_PUBLIC_KEY to a public key in PEM")
    return _public(public_key)


def _algorithms_of(secret: str) -> tuple[str, ...]:
    if secret.strip().lower() in _PLACEHOLDERS:
        raise BadKey(f"GATEWAY_JWT_SECRET is a placeholder from documentation; {_MAKE_ONE}")
    size = len(secret.encode())
    algorithms = tuple(name for name, needed in _SECRET_BYTES.items() if size >= needed)
    if not algorithms:
        raise BadKey(
            f"GATEWAY_JWT_SECRET is too short: HS256 needs {_SECRET_BYTES['HS256']} bytes or more "
            f"(RFC 7518 §3.2), and it has {size}; {_MAKE_ONE}"
        )
    different = len(set(secret.lower()))
    if different < _FEWEST_CHARACTERS:
        raise BadKey(
            f"GATEWAY_JWT_SECRET can be guessed: it has {different} different characters, and needs "
            f"{_FEWEST_CHARACTERS} or more; {_MAKE_ONE}"
        )
    return algorithms


def _public(pem: str) -> Key:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise BadKey("GATEWAY_JWT_PUBLIC_KEY is not a public key in PEM") from None
    match key:
        case RSAPublicKey():
            return Key(key, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
        case EllipticCurvePublicKey() if key.curve.name in _EC_CURVES:
            return Key(key, (_EC_CURVES[key.curve.name],))
        case Ed25519PublicKey() | Ed448PublicKey():
            return Key(key, ("EdDSA",))
    raise BadKey("GATEWAY_JWT_PUBLIC_KEY is of a kind that signs no tokens")


def prepared_secrets(key: Key) -> dict[str, jwt.PyJWK]:
    """An HMAC secret made ready for each of its algorithms (RFC 7518 §6.4); nothing for a public key.

    Raises:
        BadKey: it is a key of another kind.
    """
    if not isinstance(key.material, str):
        return {}
    secret = key.material.encode()
    try:
        for name in key.algorithms:
            jwt.get_algorithm_by_name(name).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise BadKey(
            "GATEWAY_JWT_SECRET holds a key of another kind (PEM, DER, SSH or JWK); "
            "a public key in PEM goes into GATEWAY_JWT_PUBLIC_KEY"
        ) from None
    encoded = urlsafe_b64encode(secret).rstrip(b"=").decode()
    keys = {
        name: jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": name})
        for name in key.algorithms
    }
    for name, each in keys.items():
        each.Algorithm = _CheckedSecret(_HMAC[name])
    return keys


class _CheckedSecret(HMACAlgorithm):
    """HMAC with a secret that was checked at the start. PyJWT would check it for each token: half of a verification."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """The secret, as it is."""
        return key.encode() if isinstance(key, str) else key
