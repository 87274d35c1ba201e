"""Keys that tokens are verified with, and what each is good for."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256, sha384, sha512
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
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
"""What stands in the place of a secret in documentation: ours, and that of jwt.io. Long ones are not to be part of one either."""
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
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_RSA_BITS: Final = range(2_048, 16_384 + 1)
"""Of an RSA key: RFC 7518 §3.3 forbids shorter ones, which can be factored, and OpenSSL verifies with none that is longer."""
PUBLIC_ALGORITHMS: Final = (*_RSA, *_EC_CURVES.values(), "EdDSA")
"""All that public keys go with."""


class BadKey(Exception):
    """A configured key cannot verify tokens, or anybody could guess it."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the algorithms that go with its kind, and with no other.

    The algorithms follow from the kind of the key: a public key can never be taken for an HMAC secret
    (RFC 8725 §3.1), and ``none`` is not among them.
    """

    material: Any = field(repr=False)
    algorithms: tuple[str, ...]


ANY_PUBLIC: Final = Key(None, PUBLIC_ALGORITHMS)
"""A public key that is not known yet."""


def secret_key(secret: str, setting: str = "GATEWAY_JWT_SECRET", *, weak: bool = False) -> Key:
    """A key for HMAC. It goes with the algorithms that it is long enough for.

    Args:
        secret: what tokens are signed with.
        setting: where it was given.
        weak: take any secret for any algorithm, as development mode does.

    Raises:
        BadKey: it is too short, can be guessed, is a placeholder, or is a key of another kind.
    """
    algorithms = tuple(_HMAC) if weak else _algorithms_of(secret, setting)
    try:
        HMACAlgorithm(sha256).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise BadKey(
            f"{setting} holds a key of another kind (PEM, DER, SSH or JWK); "
            "a public key in PEM goes into "
            + setting.replace("SECRET", "PUBLIC_KEY").replace("secret", "public_key")
        ) from None
    return Key(secret, algorithms)


def public_key(pem: str, setting: str = "GATEWAY_JWT_PUBLIC_KEY") -> Key:
    """A key for the algorithms of its kind.

    Args:
        pem: in PEM.
        setting: where it was given.

    Raises:
        BadKey: no PEM of a kind that signs tokens, or one that is too weak.
    """
    try:
        return key_of(load_pem_public_key(pem.encode()))
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f"{setting} is not a public key in PEM{_what_else(pem)}") from None
    except BadKey as error:
        raise BadKey(f"{setting} {error}") from None


def _what_else(text: str) -> str:
    """What stands in the place of a public key, where that can be told, and what to do."""
    if "-----BEGIN" not in text:
        return "; if it is the name of a file, write an @ before it"
    if "PRIVATE KEY-----" in text:
        return (
            ": it is a private key, which only who signs tokens should have; "
            "make the public one of it with: openssl pkey -in FILE -pubout"
        )
    if "CERTIFICATE-----" in text:
        return ": it is a certificate; take the key out of it with: openssl x509 -in FILE -noout -pubkey"
    return ""


def key_of(material: object) -> Key:
    """A public key of ``cryptography`` with the algorithms of its kind. Wherever a public key comes from, it comes by here.

    Raises:
        BadKey: it is of a kind that signs no tokens, or too weak. The message has no subject: the key is that.
    """
    match material:
        case RSAPublicKey():
            if material.key_size not in _RSA_BITS:
                raise BadKey(
                    f"is an RSA key of {material.key_size} bits; it needs {_RSA_BITS[0]} or more (RFC 7518 §3.3), "
                    f"and at most {_RSA_BITS[-1]}: make a new pair of keys, and sign tokens with it"
                )
            return Key(material, _RSA)
        case EllipticCurvePublicKey() if material.curve.name in _EC_CURVES:
            return Key(material, (_EC_CURVES[material.curve.name],))
        case Ed25519PublicKey() | Ed448PublicKey():
            return Key(material, ("EdDSA",))
        case EllipticCurvePublicKey():
            raise BadKey(
                f"is on the curve {material.curve.name}; tokens are signed with {', '.join(_EC_CURVES)} (RFC 7518 §3.4)"
            )
    raise BadKey("is of a kind that signs no tokens; RSA, elliptic curves, Ed25519 and Ed448 do")


def narrowed(keys: Sequence[Key], algorithms: Sequence[str], setting: str) -> list[Key]:
    """The same keys for these algorithms only, each for those of its kind; all of their own where none are named.

    Raises:
        BadKey: an algorithm goes with none of them, or a key with none of the algorithms.
    """
    if not algorithms:
        return list(keys)
    own = sorted({name for key in keys for name in key.algorithms})
    foreign = sorted(set(algorithms) - set(own))
    if foreign:
        goes = "this key goes" if len(keys) == 1 else "these keys go"
        told = f"{setting} names {', '.join(foreign)}, but {goes} with {', '.join(own)}"
        is_secret = any(isinstance(key.material, str) for key in keys)
        if is_secret and (needed := _SECRET_BYTES.get(foreign[-1])):
            told += f"; {foreign[-1]} needs a secret of {needed} bytes (RFC 7518 §3.2)"
        raise BadKey(told)
    fewer = [
        Key(key.material, tuple(name for name in key.algorithms if name in algorithms))
        for key in keys
    ]
    for key, kept in zip(keys, fewer, strict=True):
        if not kept.algorithms:
            raise BadKey(
                f"{setting} leaves no algorithm for the key that goes with {', '.join(key.algorithms)}: "
                "name one of them, or take the key away"
            )
    return fewer


def _algorithms_of(secret: str, setting: str) -> tuple[str, ...]:
    if _is_placeholder(secret.strip().lower()):
        raise BadKey(f"{setting} is a placeholder from documentation; {_MAKE_ONE}")
    size = len(secret.encode())
    algorithms = tuple(name for name, needed in _SECRET_BYTES.items() if size >= needed)
    if not algorithms:
        raise BadKey(
            f"{setting} is too short: HS256 needs {_SECRET_BYTES['HS256']} bytes or more "
            f"(RFC 7518 §3.2), and it has {size}; {_MAKE_ONE}"
        )
    different = len(set(secret.lower()))
    if different < _FEWEST_CHARACTERS:
        raise BadKey(
            f"{setting} can be guessed: it has {different} different characters, and needs "
            f"{_FEWEST_CHARACTERS} or more; {_MAKE_ONE}"
        )
    return algorithms


def _is_placeholder(secret: str) -> bool:
    return secret in _PLACEHOLDERS or any(
        each in secret for each in _PLACEHOLDERS if len(each) > _FEWEST_CHARACTERS
    )


def prepared_secrets(key: Key) -> dict[str, jwt.PyJWK]:
    """An HMAC secret made ready for each of its algorithms (RFC 7518 §6.4); nothing for a public key."""
    if not isinstance(key.material, str):
        return {}
    encoded = urlsafe_b64encode(key.material.encode()).rstrip(b"=").decode()
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
