"""When a client connects again, and when it gives up; pure. The rules are those of docs/protocol.md, "Close codes"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.client.errors import NOTHING, ConnectionEnded, Told

LONGEST_SECONDS: Final = 30.0
"""The longest pause before an attempt."""

_LASTED_SECONDS: Final = 60.0
"""What has ended a connection sooner may end the next one as soon as it is open, so the pauses go on growing."""

_LATER_STATUSES: Final = frozenset({408, 425, 429})
"""Refusals in HTTP below 500 that pass."""

_HOPELESS_CODES: Final = frozenset({1002, 1007, 1009})
_HOPELESS_REASONS: Final = frozenset({"token_missing", "flood", "replaced"})
_OLD_TOKEN: Final = frozenset({"token_expired", "token_revoked"})
_GOING_AWAY: Final = 1001
_NO_CLOSE_FRAME: Final = 1006


@dataclass(frozen=True, slots=True)
class End:
    """How a connection has ended, or an attempt failed.

    ``code`` is the close code (1006 where there was none), ``status`` that of a refusal in HTTP, ``by_gateway`` whether a gateway
    has refused. ``retry_after`` is how many seconds the server wants to be left alone. ``for_good`` says that the trouble stays,
    unless the gateway was reached before.
    """

    code: int = _NO_CLOSE_FRAME
    reason: str = ""
    told: Told = NOTHING
    status: int | None = None
    retry_after: float = 0.0
    for_good: bool = False
    by_gateway: bool = False


class Reconnecting:
    """The pauses between a client's attempts: full jitter, up to 1 s at first, twice as long each time, up to 30 s.

    Args:
        random: a number from 0 to 1.
        renews: whether there is a new token for each attempt.
    """

    def __init__(self, random: Callable[[], float], *, renews: bool) -> None:
        self._random = random
        self._renews = renews
        self._attempts = 0
        self._since: float | None = None
        self._was_connected = False
        self._invalid_before = False

    def connected(self, now: float) -> None:
        """The gateway has let the client in, at ``now`` (seconds of any clock that never goes back)."""
        self._since = now
        self._was_connected = True
        self._invalid_before = False

    def pause(self, end: End, now: float) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ConnectionEnded: no attempt is of any use.
        """
        if self._is_hopeless(end):
            raise ConnectionEnded(end.status or end.code, end.reason, end.told)
        self._invalid_before = end.reason == "token_invalid"
        if self._since is not None and now - self._since > _LASTED_SECONDS:
            self._attempts = 0
        self._since = None
        if end.code == _GOING_AWAY:
            # Other nodes are there, but not for all clients in one instant.
            return self._random()
        # The exponent is bounded: 2 ** attempts would become too large for a float.
        longest = min(2.0 ** min(self._attempts, 10), LONGEST_SECONDS)
        self._attempts += 1
        return end.retry_after + longest * self._random()

    def _is_hopeless(self, end: End) -> bool:
        if end.code in _HOPELESS_CODES or end.reason in _HOPELESS_REASONS:
            return True
        if end.reason == "token_invalid":
            # The login may have changed its keys a moment ago: one new token is tried.
            return not self._renews or self._invalid_before
        if end.reason in _OLD_TOKEN:
            return not self._renews
        refused = end.status is not None and end.status < 500 and end.status not in _LATER_STATUSES
        if refused and end.by_gateway:
            return True
        # Where the gateway was reached before, something has come in between: a captive portal answers in its name, and with a
        # certificate of its own.
        return (refused or end.for_good) and not self._was_connected
