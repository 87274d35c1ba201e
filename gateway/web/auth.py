"""Where a client's token may stand, and whether it is genuine."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import jwt

from gateway.core.access import Identity, TokenRejected, identify, not_a_time
from gateway.core.handshake import subprotocols
from gateway.core.header_lists import cookies
from gateway.core.http import Head
from gateway.core.protocol import ErrorCode
from gateway.core.rate_limit import TokenBucket
from gateway.node.ports import Clock
from gateway.web.decoding import Decoder
from gateway.web.keys import Key

log = logging.getLogger(__name__)

_SUBPROTOCOL_TOKEN: Final = "bearer."  # noqa: S105 - a prefix
_AUDIENCE_LINES_PER_SECOND: Final = 1 / 60
_LONGEST_AUDIENCE: Final = 100
"""Characters of it that are logged."""
_CAUSES: Final[Mapping[type[Exception], str]] = {
    jwt.InvalidSignatureError: "its signature was not made with this key",
    jwt.InvalidAlgorithmError: "its alg is not accepted",
    jwt.InvalidAudienceError: "claim 'aud' does not contain GATEWAY_JWT_AUDIENCE",
    jwt.InvalidIssuerError: "claim 'iss' does not equal GATEWAY_JWT_ISSUER",
}
"""What is wrong with a token, by PyJWT's error."""


def query_parameters(head: Head) -> Mapping[str, str]:
    """The parameters of a request's query; the first of each name."""
    return dict(reversed(parse_qsl(head.query)))


def find_token(head: Head, parameters: Mapping[str, str], cookie: str | None = None) -> str | None:
    """The token of a handshake: ``?token=``, ``Authorization: Bearer``, a subprotocol ``bearer.<token>`` beside
    ``realtime``, or a cookie. ``None`` when there is none.

    Args:
        head: the handshake. Its origin, if it has one, may connect.
        parameters: of its query.
        cookie: the name of the cookie that may hold a token, if one may.

    Raises:
        TokenRejected: the cookie comes twice.
    """
    if token := parameters.get("token"):
        return token
    scheme, _, token = (head.get("authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for offered in subprotocols(head):
        if offered.startswith(_SUBPROTOCOL_TOKEN):
            return offered.removeprefix(_SUBPROTOCOL_TOKEN)
    # A browser sends its cookies along whatever page connects, so only the origin tells who it is that asks.
    if cookie is not None and "origin" in head.fields:
        return _from_cookie(head, cookie)
    return None


def _from_cookie(head: Head, name: str) -> str | None:
    found = cookies(head.fields.get("cookie", ()), name)
    if len(found) > 1:
        # A page of a neighbouring domain can set a second one, and nobody can tell which is which.
        raise TokenRejected("the cookie comes twice")
    return (found or [""])[0] or None


def wants_batches(parameters: Mapping[str, str]) -> bool:
    """Whether a client takes several messages in one frame: ``?batch=true``."""
    return parameters.get("batch") == "true"


class TokenVerifier:
    """Implements ``ports.Verifier`` with PyJWT.

    Args:
        algorithms: a narrower choice than the key's kind allows; empty for all of them.
        audience: what ``aud`` must hold; ``None`` refuses tokens that have one.
        issuer: what ``iss`` must say; ``None`` leaves it unchecked.
        leeway: seconds by which clocks may differ.
        clock: monotonic, in seconds, for what is logged now and then.
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
        clock: Clock = time.monotonic,
    ) -> None:
        self._user_claim = user_claim
        self._audience = audience
        self._leeway = leeway
        self._clock = clock
        self._audience_lines = TokenBucket(_AUDIENCE_LINES_PER_SECOND, 1, clock())
        self._decoder = Decoder(
            key.narrowed(algorithms),
            {
                "require": ["exp"] if require_expiry else [],
                "verify_aud": audience is not None,
                "verify_iat": False,  # it tells the token's age, not when it may be used (RFC 7519 §4.1.6)
                "verify_sub": False,  # identify() looks at the claim that names the user,
                "verify_jti": False,  # and at this one
                "enforce_minimum_key_length": False,  # load_key() has looked
            },
            audience,
            issuer,
            leeway,
        )

    def verify(self, token: str) -> Identity:
        """Whom ``token`` speaks for.

        Raises:
            TokenRejected: it is malformed, wrongly signed, for another audience, expired or not valid yet, or it
                names nobody.
        """
        try:
            claims = self._decoder.claims(token)
        except jwt.ExpiredSignatureError:
            raise TokenRejected("expired", ErrorCode.TOKEN_EXPIRED) from None
        except jwt.ImmatureSignatureError:
            raise TokenRejected("its nbf is ahead", ErrorCode.TOKEN_NOT_YET_VALID) from None
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            # Bytes that are no text and numbers that are no time get past PyJWT's own errors.
            raise TokenRejected(_cause(error)) from None
        if self._audience is None:
            self._refuse_audience(claims)
        return identify(claims, self._user_claim, self._leeway)

    def _refuse_audience(self, claims: Mapping[str, Any]) -> None:
        """A token for somebody in particular is not for everybody who can verify it (RFC 7519 §4.1.3)."""
        if claims.get("aud") is None:
            return
        if self._audience_lines.take(1, self._clock()):
            log.warning(
                "audience_not_configured setting=GATEWAY_JWT_AUDIENCE aud=%s",
                str(claims["aud"])[:_LONGEST_AUDIENCE],
            )
        raise TokenRejected("it has an aud, and GATEWAY_JWT_AUDIENCE is not set")


def _cause(error: Exception) -> str:
    """What is wrong with a token, in words for the log: the claim's name, and nothing that the token holds."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"claim {error.claim!r} is missing"
    if cause := _CAUSES.get(type(error)):
        return cause
    for claim in ("exp", "nbf"):
        # PyJWT has no class of its own for these.
        if isinstance(error, jwt.DecodeError) and f"({claim})" in str(error):
            return not_a_time(claim)
    return f"it cannot be read ({type(error).__name__})"
