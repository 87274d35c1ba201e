"""Learning what has reached a client that says nothing by itself.

Logged messages are followed, at most once an interval and channel, by a WebSocket ping that names
them. TCP and WebSocket keep the order, so its pong proves that the client's WebSocket received
everything before it, and what the user has confirmed moves forward. All members of a channel get the
same bytes: the question costs nothing per socket but its pong, and what it asked comes back with it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from gateway.core import frames
from gateway.node.connection import Connection
from gateway.node.ports import Clock, Positions

_ANSWER: Final = re.compile(rb"c([0-9]{1,19}):([0-9]{1,16})")


@dataclass(slots=True)
class _Progress:
    """How far a channel's messages were sent and asked about."""

    sent: int = 0
    asked: int = 0
    asked_at: float = float("-inf")


class Confirmation:
    """Asks with pings, hears pongs, and moves the positions.

    A ping has room for 125 bytes and a channel's name may be longer, so channels are numbered as they
    are first asked about.

    Args:
        interval: seconds between two questions in a channel.
    """

    def __init__(self, positions: Positions, clock: Clock, interval: float) -> None:
        self._positions = positions
        self._clock = clock
        self._interval = interval
        self._progress: dict[str, _Progress] = {}
        self._asked: deque[tuple[float, str]] = deque()
        self._numbers: dict[str, int] = {}
        self._channels: dict[int, str] = {}
        self._next_number = count(1)

    def sent(self, channel: str, upto: int) -> bytes:
        """Note that a channel's messages up to ``upto`` go out now.

        Returns the ping to send behind them, or nothing when one was sent a moment ago:
        :meth:`tick` makes up for it.
        """
        progress = self._progress.get(channel)
        if progress is None:
            progress = self._progress[channel] = _Progress()
        progress.sent = upto
        now = self._clock()
        if now - progress.asked_at < self._interval:
            return b""
        return self._ask(channel, progress, now)

    def unasked(self, channel: str) -> bytes:
        """The ping to send to one member that is about to leave, or nothing when all was asked about."""
        progress = self._progress.get(channel)
        if progress is None or progress.sent == progress.asked:
            return b""
        return self._question(channel, progress.sent)

    def replayed(self, channel: str, upto: int) -> bytes:
        """The ping to send behind a replay that ends with ``upto``."""
        return self._question(channel, upto)

    def tick(self, ask: Callable[[str, bytes], None]) -> None:
        """Ask about what was sent since the last question.

        To be called several times an interval; ``ask`` sends a ping to a channel's members.
        """
        now = self._clock()
        while self._asked and now - self._asked[0][0] >= self._interval:
            asked_at, channel = self._asked.popleft()
            progress = self._progress.get(channel)
            if progress is None or progress.asked_at != asked_at:
                continue
            if progress.sent > progress.asked:
                ask(channel, self._ask(channel, progress, now))
            else:
                del self._progress[channel]

    def forget(self, channel: str) -> None:
        """Nobody listens to a channel any more; what is still on its way proves nothing."""
        self._progress.pop(channel, None)
        if (number := self._numbers.pop(channel, None)) is not None:
            del self._channels[number]

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Take a pong; one that answers no question of ours proves nothing here."""
        answer = _ANSWER.fullmatch(payload)
        if answer is not None and (channel := self._channels.get(int(answer[1]))) is not None:
            upto = int(answer[2])
            # An id above all that was sent is of a log that Redis has lost since it was asked about.
            if upto <= connection.sent_upto(channel):
                self.confirm(connection, channel, upto)

    def confirm(self, connection: Connection, channel: str, upto: int) -> None:
        """Note that a connection's user has everything in ``channel`` up to ``upto``.

        A client can claim what it likes, so no more counts than this connection was sent.
        """
        proven = min(upto, connection.sent_upto(channel))
        if proven > 0:
            self._positions.advance(channel, connection.user, proven)

    def begins(self, channel: str, user: str, position: int) -> None:
        """Note where a user begins who was not in ``channel`` before: from here on a loss is one."""
        self._positions.advance(channel, user, position)

    def departed(self) -> None:
        """A connection has closed; its user may be back in a moment, on another node."""
        self._positions.hurry()

    def _ask(self, channel: str, progress: _Progress, now: float) -> bytes:
        progress.asked = progress.sent
        progress.asked_at = now
        self._asked.append((now, channel))
        return self._question(channel, progress.sent)

    def _question(self, channel: str, upto: int) -> bytes:
        number = self._numbers.get(channel)
        if number is None:
            number = self._numbers[channel] = next(self._next_number)
            self._channels[number] = channel
        return frames.ping(b"c%d:%d" % (number, upto))
