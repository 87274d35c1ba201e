"""Where a client's token may stand, and whether it is genuine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.core.access import ChannelPass, Identity, TokenRejected, Use, identify, read_pass
from gateway.core.handshake import subprotocols
from gateway.core.header_lists import cookies
from gateway.core.http import Head
from gateway.core.rate_limit import TokenBucket
from gateway.node.ports import Clock
from gateway.web.key_set import KeySet

log = logging.getLogger(__name__)

_SUBPROTOCOL_TOKEN: Final = "bearer."  # noqa: S105 - a prefix
_LINES_PER_SECOND: Final = 1 / 60
"""Of each kind: whoever makes such tokens makes many."""
_LONGEST_AUDIENCE: Final = 100
"""Characters of it that are logged."""
_MILLISECONDS: Final = 1e12
"""As seconds it is the year 33658, which nobody means; as milliseconds it is 2001. What means "never" is often 9999, a quarter of it."""

Told = TypeVar("Told", Identity, ChannelPass)
"""What a token says."""


def query_parameters(head: Head) -> Mapping[str, str]:
    """The parameters of a request's query that are not empty; the first of each name."""
    return {name: value for name, value in reversed(head.parameters) if value}


def find_token(head: Head, parameters: Mapping[str, str], cookie: str | None = None) -> str | None:
    """The token of a handshake: ``?token=``, ``Authorization: Bearer``, a subprotocol ``bearer.<token>`` beside
    ``realtime``, or a cookie. ``None`` when there is none.

    Args:
        head: the handshake. Its origin, if it has one, may connect.
        parameters: of its query.
        cookie: the name of the cookie that may hold a token, if one may, and if it is known which page has asked.

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
    return None if cookie is None else _from_cookie(head, cookie)


def why_none(head: Head, cookie: str | None) -> str:
    """Why a token that a handshake without one seems to have did not count; empty where it seems to have none."""
    has_cookie = cookie is not None and bool(cookies(head.fields.get("cookie", ()), cookie))
    return f"its cookie {cookie} does not count, because it names no Origin" if has_cookie else ""


def _from_cookie(head: Head, name: str) -> str | None:
    found = cookies(head.fields.get("cookie", ()), name)
    if len(found) > 1:
        # A page of a neighbouring domain can set a second one, and nobody can tell which is which.
        raise TokenRejected("the cookie comes twice")
    return (found or [""])[0] or None


def wants_batches(parameters: Mapping[str, str]) -> bool:
    """Whether a client takes several messages in one frame: ``?batch=true``."""
    return parameters.get("batch") == "true"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What goes for all tokens, whichever key has signed them.

    ``user_claim``: which one names the user. ``leeway``: seconds by which clocks may differ. ``longest``: seconds for which
    a token may be valid; ``None`` for as long as it says. ``channel_patterns``: whether ``namespace/*`` in ``channels`` counts.
    """

    user_claim: str = "sub"
    leeway: float = 0
    longest: float | None = None
    channel_patterns: bool = True


class TokenVerifier:
    """Implements ``ports.Verifier`` with PyJWT.

    Args:
        clock: monotonic, in seconds, for what is logged now and then.
        wall_clock: seconds since 1970.
    """

    def __init__(self, keys: KeySet, rules: TokenRules, clock: Clock, wall_clock: Clock) -> None:
        self.keys = keys
        self._rules = rules
        self._clock = clock
        self._wall_clock = wall_clock
        self._patterns_told = False
        now = clock()
        self._audience_lines = TokenBucket(_LINES_PER_SECOND, 1, now)
        self._milliseconds_lines = TokenBucket(_LINES_PER_SECOND, 1, now)

    def verify(self, token: str) -> Identity:
        """Whom ``token`` speaks for.

        Raises:
            TokenRejected: it is malformed, of another type, wrongly signed, for another audience, expired or not valid
                yet, lives too long, or names nobody.
        """
        claims = self._genuine(token, Use.CONNECTION)
        identity = identify(claims, self._rules.user_claim, self._rules.leeway)
        identity = self._aged(identity, identity.user)
        return identity if self._rules.channel_patterns else self._without_patterns(identity)

    def verify_pass(self, token: str, user: str, channel: str) -> ChannelPass:
        """What a channel token allows ``user``, who shows it for ``channel``.

        Raises:
            TokenRejected: as above, or it is another user's or another channel's.
        """
        claims = self._genuine(token, Use.CHANNEL)
        passed = read_pass(claims, self._rules.user_claim, user, channel, self._rules.leeway)
        return self._aged(passed, user)

    def _genuine(self, token: str, use: Use) -> dict[str, Any]:
        claims, demands = self.keys.read(token, use)
        if demands.audience is None:
            self._refuse_audience(claims, demands.audience_setting)
        return claims

    def _refuse_audience(self, claims: Mapping[str, Any], setting: str) -> None:
        """A token for somebody in particular is not for everybody who can verify it (RFC 7519 §4.1.3)."""
        if claims.get("aud") is None:
            return
        if self._audience_lines.take(1, self._clock()):
            log.warning(
                "audience_not_configured setting=%s aud=%s",
                setting,
                str(claims["aud"])[:_LONGEST_AUDIENCE],
            )
        raise TokenRejected(f"it has an aud, and {setting} is not set")

    def _without_patterns(self, identity: Identity) -> Identity:
        exact = frozenset(name for name in identity.channels if not name.endswith("/*"))
        if len(exact) < len(identity.channels) and not self._patterns_told:
            self._patterns_told = True
            log.warning("channel_pattern_ignored setting=GATEWAY_JWT_CHANNEL_PATTERNS")
        return identity._replace(channels=exact)

    def _aged(self, found: Told, user: str) -> Told:
        """The same, with an ``issued_at`` that tells how old the token is.

        Raises:
            TokenRejected: it lives longer than tokens may.
        """
        now, issued_at = self._wall_clock(), found.issued_at
        self._refuse_long_life(found, now)
        self._note_milliseconds(found.expires_at, user)
        # One that is ahead is no reason to refuse (RFC 7519 §4.1.6), and says nothing about the age: who made it has
        # another clock, or another unit, and such a token would outlive every revocation by age.
        is_ahead = issued_at is not None and issued_at > now + self._rules.leeway
        return found._replace(issued_at=None) if is_ahead else found

    def _note_milliseconds(self, expires_at: float | None, user: str) -> None:
        """Say that a token is good for 50,000 years: who makes it counts in milliseconds. It was always taken, and still is."""
        if expires_at is None or expires_at < _MILLISECONDS:
            return
        if self._milliseconds_lines.take(1, self._clock()):
            exp = expires_at - self._rules.leeway
            log.warning("token_expiry_in_milliseconds user=%r exp=%d", user, exp)

    def _refuse_long_life(self, found: Identity | ChannelPass, now: float) -> None:
        rules = self._rules
        if rules.longest is None:
            return
        if found.issued_at is None:
            # Of its life only the rest is known: it would be too long today and accepted near its end.
            raise TokenRejected("it has no iat, and GATEWAY_JWT_MAX_LIFETIME_SECONDS is set")
        # One that is ahead was issued by now. And what was read lasts for the leeway longer than the token.
        begins, ends = min(found.issued_at, now), found.expires_at
        if ends is None or ends - begins > rules.longest + 2 * rules.leeway:
            raise TokenRejected("it lives longer than GATEWAY_JWT_MAX_LIFETIME_SECONDS")
