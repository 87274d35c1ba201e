"""Where a client's token may stand, and whether it is genuine."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256, sha384, sha512
from typing import Any, Final

import jwt
from aiohttp import hdrs, web
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from gateway.core.access import Identity, TokenRejected, identify

SUBPROTOCOL: Final = "realtime"
"""Offered by clients that send their token as a subprotocol; the only one ever echoed."""

_SUBPROTOCOL_TOKEN: Final = "bearer."  # noqa: S105 - a prefix
_HEADERS_REMEMBERED: Final = 64
"""Different token headers whose algorithm is known; a login has one."""
_HMAC: Final = {"HS256": sha256, "HS384": sha384, "HS512": sha512}
_EC_CURVES: Final = {
    "secp256r1": "ES256",
    "secp384r1": "ES384",
    "secp521r1": "ES512",
    "secp256k1": "ES256K",
}


class BadKey(Exception):
    """The configured key cannot verify tokens."""


def find_token(request: web.BaseRequest) -> str | None:
    """The token of a handshake: ``?token=``, ``Authorization: Bearer``, or a subprotocol
    ``bearer.<token>`` beside ``realtime``. ``None`` when there is none.
    """
    if token := request.query.get("token"):
        return token
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for offered in request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(","):
        if (token := offered.strip()).startswith(_SUBPROTOCOL_TOKEN):
            return token.removeprefix(_SUBPROTOCOL_TOKEN)
    return None


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the algorithms that go with its kind, and with no other."""

    material: Any
    algorithms: tuple[str, ...]


def load_key(secret: str | None, public_key: str | None) -> Key:
    """Make a key of an HMAC secret or of a public key in PEM; exactly one of them.

    The algorithms follow from the kind of the key: a public key can never be taken for an HMAC secret
    (RFC 8725 §3.1), and ``none`` is not among them.

    Raises:
        BadKey: neither or both, or no PEM of a kind that signs tokens.
    """
    if secret and public_key:
        raise BadKey("set GATEWAY_JWT_SECRET or GATEWAY_JWT_PUBLIC_KEY, not both")
    if secret:
        return Key(secret, tuple(_HMAC))
    if not public_key:
        raise BadKey("set GATEWAY_JWT_SECRET, or GATEWAY_JWT_PUBLIC_KEY to a public key in PEM")
    try:
        key = load_pem_public_key(public_key.encode())
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


class TokenVerifier:
    """Implements ``ports.Verifier`` with PyJWT.

    Args:
        algorithms: a narrower choice than the key's kind allows; empty for all of them.
        audience, issuer: what ``aud`` and ``iss`` must say; ``None`` leaves them unchecked.
        leeway: seconds by which clocks may differ.
    """

    def __init__(
        self,
        key: Key,
        *,
        algorithms: Sequence[str] = (),
        user_claim: str = "sub",
        require_expiry: bool = True,
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = 0,
    ) -> None:
        foreign = set(algorithms) - set(key.algorithms)
        if foreign:
            raise BadKey(
                f"GATEWAY_JWT_ALGORITHMS names {', '.join(sorted(foreign))}, "
                f"but this key goes with {', '.join(key.algorithms)}"
            )
        self._key = key
        self._user_claim = user_claim
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._decoder = jwt.PyJWT(
            {
                "require": ["exp"] if require_expiry else [],
                "verify_aud": audience is not None,
                "verify_sub": False,  # identify() looks at the claim that names the user
                "enforce_minimum_key_length": False,  # `gateway check` advises, once
            }
        )
        self._algorithms = list(algorithms or key.algorithms)
        self._secrets = _prepared(key, self._algorithms)
        # Only of tokens that were genuine: anybody can send headers.
        self._known: dict[str, str] = {}

    def verify(self, token: str) -> Identity:
        """Whom ``token`` speaks for.

        Raises:
            TokenRejected: it is malformed, expired, not valid yet, wrongly signed, or names nobody.
        """
        head = token.partition(".")[0]
        try:
            algorithm = self._known.get(head) or _algorithm(token)
            claims = self._decoder.decode(
                token,
                # One that does not go with the key is refused by PyJWT, as always.
                self._secrets.get(algorithm, self._key.material),
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
            )
        except jwt.ExpiredSignatureError:
            raise TokenRejected("expired", expired=True) from None
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            # Bytes that are no text and numbers that are no time get past PyJWT's own errors.
            raise TokenRejected(type(error).__name__) from None
        if len(self._known) < _HEADERS_REMEMBERED:
            self._known[head] = algorithm
        return identify(claims, self._user_claim, self._leeway)


def _algorithm(token: str) -> str:
    """The algorithm that a token's header names.

    Raises:
        jwt.PyJWTError: it has no header that could be read.
    """
    return str(jwt.get_unverified_header(token).get("alg"))


def _prepared(key: Key, algorithms: Sequence[str]) -> dict[str, jwt.PyJWK]:
    """An HMAC secret made ready for each algorithm (RFC 7518 §6.4)."""
    if not isinstance(key.material, str):
        return {}
    secret = key.material.encode()
    try:
        for name in algorithms:
            jwt.get_algorithm_by_name(name).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise BadKey(
            "GATEWAY_JWT_SECRET holds a key of another kind (PEM, DER, SSH or JWK); "
            "a public key in PEM goes into GATEWAY_JWT_PUBLIC_KEY"
        ) from None
    encoded = urlsafe_b64encode(secret).rstrip(b"=").decode()
    keys = {
        name: jwt.PyJWK.from_dict({"kty": "oct", "k": encoded, "alg": name}) for name in algorithms
    }
    for name, each in keys.items():
        each.Algorithm = _CheckedSecret(_HMAC[name])
    return keys


class _CheckedSecret(HMACAlgorithm):
    """HMAC with a secret that was checked at the start. PyJWT would check it for each token: half of a verification."""

    def prepare_key(self, key: str | bytes) -> bytes:
        """The secret, as it is."""
        return key.encode() if isinstance(key, str) else key
