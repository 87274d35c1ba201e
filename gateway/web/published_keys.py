"""A set of keys as an issuer publishes it: a JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.web.key_fetching import NoKeys
from gateway.web.keys import BadKey, Key, key_of

_MOST: Final = 100

_READ_AS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""An algorithm by kind of key, with which PyJWT reads all keys of the kind. A set may also hold secrets, which nobody should
publish and which verify nothing here."""

_UNREADABLE: Final = (
    *(jwt.PyJWTError, UnsupportedAlgorithm, BadKey),
    *(ValueError, TypeError, KeyError, AttributeError, OverflowError),
)
"""What reading a key raises; PyJWT looks at few of its fields before it uses them."""


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key and its name."""

    kid: str | None
    key: Key


def read_set(body: bytes) -> tuple[list[PublishedKey], int]:
    """The keys of a set that verify signatures, and how many others it has.

    Raises:
        NoKeys: it is no set, or a set of none or too many.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NoKeys("what came is not JSON") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        if isinstance(found, dict) and "jwks_uri" in found:
            raise NoKeys(
                "what came is a discovery document and no set of keys: set discovery in the place of the URL"
            )
        raise NoKeys("what came is no set of keys")
    if len(listed) > _MOST:
        raise NoKeys(f"more than {_MOST} keys")
    keys = [key for each in listed if (key := _read(each)) is not None]
    if not keys:
        raise NoKeys("no key in the set verifies signatures")
    return keys, len(listed) - len(keys)


def _read(given: object) -> PublishedKey | None:
    """A key of a set; ``None`` for one that verifies no signature, or is not to be published."""
    if not isinstance(given, dict) or not _is_for_signatures(given):
        return None
    key, kid, algorithm = _key(given), given.get("kid"), given.get("alg")
    if key is None or not (kid is None or isinstance(kid, str)):
        return None
    # Without `alg` all algorithms of its kind are meant. PyJWT takes one of them for that.
    if algorithm is None:
        return PublishedKey(kid, key)
    fits = algorithm in key.algorithms
    return PublishedKey(kid, Key(key.material, (algorithm,))) if fits else None


def _key(given: Mapping[str, Any]) -> Key | None:
    """``None`` for a key that is secret, cannot be read, or cannot be used (``key_of``)."""
    name = _READ_AS.get(str(given.get("kty")))
    if name is None or "d" in given:
        return None
    try:
        return key_of(jwt.PyJWK.from_dict(dict(given), name).key)
    except _UNREADABLE:
        return None


def _is_for_signatures(given: Mapping[str, Any]) -> bool:
    operations = given.get("key_ops")
    return given.get("use", "sig") == "sig" and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
