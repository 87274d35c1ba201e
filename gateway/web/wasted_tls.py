"""How many handshakes of TLS an address has wasted, and how soon it may begin with another one."""

from __future__ import annotations

from typing import Final

from gateway.core.rate_limit import Quota
from gateway.node.ports import Clock

_PERIOD_SECONDS: Final = 60.0
_MOST_ADDRESSES: Final = 10_000
"""Who has more of them can have as many as they like: then all begin anew, and nobody else is held up."""
_LONGEST_SECONDS: Final = 10.0
"""How long a client may wait for its turn."""
_SLOWEST_SECONDS: Final = 1.0
"""Between two turns, whatever the limit: a handshake a second costs next to nothing."""


class WastedTls:
    """Counts them for each address; all begin anew with each minute.

    An address that has wasted too many gets no more of them in a second than it may waste in a second of an even minute, each
    in its turn: nobody knows before a handshake who at the address comes with a valid token, and who does gets in.

    Args:
        most: of an address, in a minute.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._clock = clock
        self._quota = Quota(most, _PERIOD_SECONDS, clock(), _MOST_ADDRESSES)
        self._pause = min(_PERIOD_SECONDS / most, _SLOWEST_SECONDS)
        # When the next turn of an address is; moments that have passed say nothing.
        self._turns: dict[str, float] = {}

    def note(self, block: str | None) -> None:
        """One more came to nothing; ``None`` where nobody knows from where, or a proxy stands for many."""
        if block is not None:
            self._quota.take(block, self._clock())

    def turn(self, block: str | None) -> float | None:
        """In how many seconds one from there may begin; ``None``: too many wait already."""
        now = self._clock()
        if block is None or not self._quota.wait(block, now):
            return 0.0
        turn = max(self._turns.get(block, now), now)
        if turn - now > _LONGEST_SECONDS:
            return None
        if len(self._turns) >= _MOST_ADDRESSES:
            self._turns = {each: at for each, at in self._turns.items() if at > now}
        self._turns[block] = turn + self._pause
        return turn - now
