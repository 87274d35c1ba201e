"""Reading tokens with PyJWT, which looks at each header and at each key only once."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import jwt
import orjson
from jwt.algorithms import Algorithm

from gateway.web.keys import Key, prepared_secrets

_HEADERS_REMEMBERED: Final = 64
"""Different headers whose algorithm is known; a login has one."""


class Decoder(jwt.PyJWT):
    """PyJWT for one key.

    All tokens of a login begin with the same header, and what PyJWT says of a header follows from its bytes and from
    the key. So of a token whose header was a genuine token's, PyJWT is asked for the rest only: whether the signature was
    made with the key, and what is wrong with the claims. A token that is not written in the usual way goes the whole
    way through PyJWT.

    Args:
        key: what tokens are signed with.
        options: as for ``jwt.PyJWT``.
        audience: what ``aud`` must hold, if it is verified.
        issuer: what ``iss`` must say; ``None`` leaves it unchecked.
        leeway: seconds by which clocks may differ.
    """

    def __init__(
        self,
        key: Key,
        options: Any,
        audience: str | None,
        issuer: str | None,
        leeway: float,
    ) -> None:
        super().__init__(options)
        self._key = key
        self._allowed = list(key.algorithms)
        self._secrets = prepared_secrets(key)
        self._expected: dict[str, Any] = {"audience": audience, "issuer": issuer, "leeway": leeway}
        # Only of tokens that were genuine: anybody can send headers.
        self._known: dict[str, tuple[Algorithm, Any]] = {}

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a genuine token that is valid now.

        Raises:
            jwt.PyJWTError, ValueError, OverflowError, RecursionError: it is not.
        """
        signed, _, mac = token.rpartition(".")
        header, _, body = signed.partition(".")
        known = self._known.get(header)
        signature, payload = (_octets(mac), _octets(body)) if known and body else (None, None)
        if known is None or signature is None or payload is None:
            return self._whole(token, header)
        algorithm, key = known
        if not algorithm.verify(signed.encode(), key, signature):
            raise jwt.InvalidSignatureError("Signature verification failed")
        claims = _object(payload)
        if claims is None:
            return self._whole(token, header)
        self._validate_claims(claims, self.options, **self._expected)
        return claims

    def _whole(self, token: str, header: str) -> dict[str, Any]:
        """All of what PyJWT does."""
        name = str(jwt.get_unverified_header(token).get("alg"))
        # One that does not go with the key is refused by PyJWT, as always.
        secret = self._secrets.get(name)
        claims = self.decode(
            token, secret or self._key.material, algorithms=self._allowed, **self._expected
        )
        if len(self._known) < _HEADERS_REMEMBERED:
            self._known[header] = self._prepared(name)
        return claims

    def _prepared(self, name: str) -> tuple[Algorithm, Any]:
        """What verifies the signatures of an algorithm that goes with the key, and the key as it takes it."""
        secret = self._secrets.get(name)
        if secret is not None:
            return secret.Algorithm, secret.key
        algorithm = jwt.get_algorithm_by_name(name)
        return algorithm, algorithm.prepare_key(self._key.material)


def _octets(text: str) -> bytes | None:
    """What is written in base64url (RFC 7515 §2); ``None`` where that is done in another way than the usual one."""
    try:
        octets = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    usual = urlsafe_b64encode(octets).rstrip(b"=")
    return octets if usual == text.encode() else None


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a text is; ``None`` where it is none, or one that only PyJWT can read."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
