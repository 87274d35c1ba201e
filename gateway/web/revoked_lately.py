"""Tokens that Redis has lately called revoked."""

from __future__ import annotations

from typing import Final, TypeAlias

from gateway.core.access import Identity
from gateway.node.ports import Clock

_PERIOD_SECONDS: Final = 10.0
_MOST: Final = 10_000

_Token: TypeAlias = tuple[str, float | None, str | None]


class RevokedLately:
    """Remembers them for ten seconds, so that whoever shows one again and again is refused without a question to Redis, and
    holds nothing of its user's meanwhile.

    Not for longer: what Redis knows ends with the token, and an operator can delete it. All begin anew with each period, or
    where there are too many.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock()
        self._tokens: set[_Token] = set()

    def note(self, identity: Identity) -> None:
        """The token that has shown this is revoked."""
        now = self._clock()
        if now >= self._until or len(self._tokens) >= _MOST:
            self._tokens.clear()
            self._until = now + _PERIOD_SECONDS
        self._tokens.add(_token(identity))

    def has(self, identity: Identity) -> bool:
        """Whether the token is known to be revoked that has shown this."""
        return _token(identity) in self._tokens and self._clock() < self._until


def _token(identity: Identity) -> _Token:
    """All that a revocation goes by, so that another token of the same user is another one."""
    return identity.user, identity.issued_at, identity.token_id
