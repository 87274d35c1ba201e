"""Reading tokens with PyJWT, which looks at each header and at each key only once."""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import jwt
import orjson
from jwt.algorithms import Algorithm

from gateway.core.access import TokenRejected, not_a_time
from gateway.core.protocol import ErrorCode
from gateway.web.keys import Key, prepared_secrets

Name = TypeVar("Name")
Value = TypeVar("Value")

_HEADERS_REMEMBERED: Final = 64
"""Different headers of which is known what they say; a login has one."""

_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
"""From base64url without padding to base64; what does not belong into the one does not belong into the other either."""

_UNREADABLE: Final = (jwt.PyJWTError, ValueError, OverflowError, RecursionError)
"""What PyJWT raises: bytes that are no text and numbers that are no time get past its own errors."""


ALGORITHM_NOT_ACCEPTED: Final = "its alg is not accepted"
"""A cause that is told in two places."""


_CODES: Final[Mapping[type[Exception], ErrorCode]] = {
    jwt.ExpiredSignatureError: ErrorCode.TOKEN_EXPIRED,
    jwt.ImmatureSignatureError: ErrorCode.TOKEN_NOT_YET_VALID,
}
_CAUSES: Final[Mapping[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "its nbf is ahead",
    jwt.InvalidAlgorithmError: ALGORITHM_NOT_ACCEPTED,
    jwt.InvalidAudienceError: "claim 'aud' does not contain {0.audience_setting}",
    jwt.InvalidIssuerError: "claim 'iss' does not equal {0.issuer_setting}",
}
"""What is wrong with a token, by PyJWT's error."""


class WrongSignature(TokenRejected):
    """A token that was not signed with this key."""

    def __init__(self) -> None:
        super().__init__("its signature was not made with this key")


@dataclass(frozen=True, slots=True)
class Demands:
    """What a token has to say, besides being signed with a key.

    ``audience``: what ``aud`` must hold; ``None`` refuses tokens that have one. ``issuer``: what ``iss`` must equal;
    ``None`` leaves it unchecked. ``leeway``: seconds by which clocks may differ. ``audience_setting`` and
    ``issuer_setting``: where the two are configured.
    """

    audience: str | None = None
    issuer: str | None = None
    require_expiry: bool = True
    leeway: float = 0
    audience_setting: str = "GATEWAY_JWT_AUDIENCE"
    issuer_setting: str = "GATEWAY_JWT_ISSUER"


class Decoder(jwt.PyJWT):
    """PyJWT for one key.

    All tokens of a login begin with the same header, and what PyJWT says of a header follows from its bytes and from
    the key. So of a token whose header was a genuine token's, PyJWT is asked for the rest only: whether the signature was
    made with the key, and what is wrong with the claims. A token that is not written in the usual way goes the whole
    way through PyJWT.
    """

    def __init__(self, key: Key, demands: Demands) -> None:
        super().__init__(
            {
                "require": ["exp"] if demands.require_expiry else [],
                "verify_aud": demands.audience is not None,
                "verify_iat": False,  # it tells the token's age, not when it may be used (RFC 7519 §4.1.6)
                "verify_sub": False,  # identify() looks at the claim that names the user,
                "verify_jti": False,  # and at this one
                "enforce_minimum_key_length": False,  # secret_key() has looked
            }
        )
        self.algorithms = key.algorithms
        self.demands = demands
        self._key = key
        self._allowed = list(key.algorithms)
        self._secrets = prepared_secrets(key)
        self._expected: dict[str, Any] = {
            "audience": demands.audience,
            "issuer": demands.issuer,
            "leeway": demands.leeway,
        }
        # Only of tokens that were genuine: anybody can send headers.
        self._known: dict[str, tuple[Algorithm, Any]] = {}

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a genuine token that is valid now.

        Raises:
            WrongSignature: another key has signed it, or none.
            TokenRejected: it is malformed, for another audience, of another issuer, expired or not valid yet.
        """
        try:
            return self._claims(token)
        except jwt.InvalidSignatureError:
            raise WrongSignature from None
        except _UNREADABLE as error:
            raise _rejection(error, self.demands) from None

    def _claims(self, token: str) -> dict[str, Any]:
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

    def _validate_exp(self, payload: dict[str, Any], now: float, leeway: float) -> None:
        """Look at the end of a token with its fraction, by which the connection ends too; PyJWT cuts it off."""
        end = payload["exp"]
        if not (isinstance(end, float) and now - leeway < end < math.inf):
            super()._validate_exp(payload, now, leeway)

    def _whole(self, token: str, header: str) -> dict[str, Any]:
        """All of what PyJWT does."""
        name = str(jwt.get_unverified_header(token).get("alg"))
        # One that does not go with the key is refused by PyJWT, as always.
        secret = self._secrets.get(name)
        claims = self.decode(
            token, secret or self._key.material, algorithms=self._allowed, **self._expected
        )
        remember(self._known, header, self._prepared(name))
        return claims

    def _prepared(self, name: str) -> tuple[Algorithm, Any]:
        """What verifies the signatures of an algorithm that goes with the key, and the key as it takes it."""
        secret = self._secrets.get(name)
        if secret is not None:
            return secret.Algorithm, secret.key
        algorithm = jwt.get_algorithm_by_name(name)
        return algorithm, algorithm.prepare_key(self._key.material)


def remember(known: dict[Name, Value], name: Name, value: Value) -> None:
    """Keep what is known of a header, in the place of the oldest of many."""
    known.pop(name, None)
    if len(known) >= _HEADERS_REMEMBERED:
        del known[next(iter(known))]
    known[name] = value


def header_of(token: str) -> Mapping[str, Any]:
    """What a token's header says, believed by nobody.

    Raises:
        TokenRejected: it cannot be read, or marks as critical what PyJWT does not know.
    """
    try:
        return jwt.get_unverified_header(token)
    except _UNREADABLE as error:
        raise _rejection(error, Demands()) from None


def issuer_of(token: str) -> str | None:
    """What a token's ``iss`` says, believed by nobody; ``None`` where it says nothing, or cannot be read."""
    body = token.partition(".")[2].rpartition(".")[0]
    payload = _octets(body)
    claims = None if payload is None else _object(payload)
    if claims is None:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except _UNREADABLE:
            return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def _rejection(error: Exception, demands: Demands) -> TokenRejected:
    code = _CODES.get(type(error), ErrorCode.TOKEN_INVALID)
    return TokenRejected(_cause(error, demands), code)


def _cause(error: Exception, demands: Demands) -> str:
    """What is wrong with a token, in words for the log: the claim's name, and nothing that the token holds."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"claim {error.claim!r} is missing"
    if cause := _CAUSES.get(type(error)):
        return cause.format(demands)
    for claim in ("exp", "nbf"):
        # PyJWT has no class of its own for these.
        if isinstance(error, jwt.DecodeError) and f"({claim})" in str(error):
            return not_a_time(claim)
    return f"it cannot be read ({type(error).__name__})"


def _octets(text: str) -> bytes | None:
    """What is written in base64url (RFC 7515 §2); ``None`` where that is done in another way than the usual one."""
    try:
        ordinary = text.encode().translate(_TO_BASE64) + b"=" * (-len(text) % 4)
        octets = a2b_base64(ordinary)
    except ValueError:
        return None
    # Of what can be read in several ways only one is written like this.
    return octets if b2a_base64(octets, newline=False) == ordinary else None


def _object(text: bytes) -> dict[str, Any] | None:
    """The JSON object that a text is; ``None`` where it is none, or one that only PyJWT can read."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
