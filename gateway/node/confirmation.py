"""Learning what has reached a client that says nothing by itself.

Logged messages are followed, at most once an interval and channel, by a WebSocket ping that names
them. TCP and WebSocket keep the order, so its pong proves that the client's WebSocket received
everything before it, and what the user has confirmed moves forward. All members of a channel get the
same bytes: the question costs nothing per socket but its pong, and what it asked comes back with it.

The interval is a longer one while messages of a channel go on coming and its questions are answered,
as long as the log keeps several times what comes meanwhile: who was sent something that it no longer
has must not seem to have lost it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from gateway.core import frames
from gateway.core.access import retention_of
from gateway.core.rate_limit import Quota
from gateway.node.connection import Connection
from gateway.node.ports import Clock, Positions
from gateway.node.timings import Timings
from gateway.node.watching import Watching, nobody
from publisher.contract.channels import Namespace
from publisher.contract.message import NO_POSITION

_MARK: Final = b"c"
_ANSWER: Final = re.compile(rb"c([0-9]{1,19}):([0-9]{1,16})")

_LONGER: Final = 3
"""Intervals between two questions in a channel that is confirmed regularly: what repeats at most after a break."""

_PART: Final = 4
"""The log keeps so many times what may have come since the last question."""

_AWAITED_A_DAY: Final = 1_000
"""Of a user and on a node. Redis keeps each of such positions for weeks, in a key of its own, and nobody can tell which of
these channels there will ever be."""
_DAY: Final = 86_400.0


@dataclass(slots=True)
class _Progress:
    """How far a channel's messages were sent and asked about.

    ``oldest`` is the first that was sent since the last question, 0 for none.
    ``answered``: a member has answered the last question. ``since`` counts the messages after it; the ``interval``
    is the ordinary one once there are more of them than ``room``.
    """

    channel: str
    interval: float
    sent: int = 0
    oldest: int = 0
    asked: int = 0
    asked_at: float = float("-inf")
    answered: bool = False
    since: int = 0
    room: int = 0


class Confirmation:
    """Asks with pings, hears pongs, and moves the positions.

    A ping has room for 125 bytes and a channel's name may be longer, so channels are numbered as they
    are first asked about.

    Args:
        interval: seconds between two questions in a channel; three times as many where it is confirmed regularly.
        told: told a channel, a user, and up to which id they have everything; if anybody wants to know.
        traced: told a channel, up to which id a connection had everything before, and has now; likewise.
        watching: tells operators who look; without one nobody does.
    """

    def __init__(
        self,
        positions: Positions,
        namespaces: Mapping[str, Namespace],
        clock: Clock,
        interval: float,
        timings: Timings,
        told: Callable[[str, str, int], None] | None = None,
        traced: Callable[[str, int, int], None] | None = None,
        watching: Watching | None = None,
    ) -> None:
        self._watching = watching or nobody()
        self._timings = timings
        self._told = told
        self._traced = traced
        self._namespaces = namespaces
        self._positions = positions
        self._clock = clock
        self._interval = interval
        self._progress: dict[str, _Progress] = {}
        # By the payloads that answer them, with the oldest message asked about: of most pongs nothing has to be read.
        self._questions: dict[bytes, tuple[_Progress, int]] = {}
        # When which channels were asked about, by the interval after that.
        self._asked: dict[float, deque[tuple[float, str]]] = {
            interval: deque(),
            interval * _LONGER: deque(),
        }
        self._numbers: dict[str, int] = {}
        self._channels: dict[int, str] = {}
        self._next_number = count(1)
        self._awaited = Quota(_AWAITED_A_DAY, _DAY, clock())

    def sent(self, channel: str, upto: int, count: int = 1, oldest: int = 0) -> bytes:
        """Note that ``count`` messages of a channel, up to ``upto``, go out now; the first is ``oldest``, where they are several.

        Returns the ping to send behind them, or nothing when one was sent a moment ago:
        :meth:`tick` makes up for it.
        """
        progress = self._progress.get(channel)
        if progress is None:
            progress = self._progress[channel] = _Progress(channel, self._interval)
        progress.sent = upto
        if not progress.oldest:
            progress.oldest = oldest or upto
        progress.since += count
        now = self._clock()
        if progress.since > progress.room:
            self._hurry(progress)
        if now - progress.asked_at < progress.interval:
            return b""
        return self._ask(progress, now)

    def _hurry(self, progress: _Progress) -> None:
        """Ask after the ordinary interval: more has come than the log keeps for a longer one."""
        if progress.interval != self._interval:
            progress.interval = self._interval
            self._asked[self._interval].append((progress.asked_at, progress.channel))

    def unasked(self, channel: str) -> bytes:
        """The ping to send to one member that is about to leave, or nothing when all was asked about."""
        progress = self._progress.get(channel)
        if progress is None or progress.sent == progress.asked:
            return b""
        return frames.ping(self._payload(channel, progress.sent))

    def replayed(self, channel: str, upto: int) -> bytes:
        """The ping to send behind a replay that ends with ``upto``."""
        return frames.ping(self._payload(channel, upto))

    def tick(self, ask: Callable[[str, bytes], None]) -> None:
        """Ask about what was sent since the last question.

        To be called several times an interval; ``ask`` sends a ping to a channel's members.
        """
        now = self._clock()
        for interval, asked in self._asked.items():
            while asked and now - asked[0][0] >= interval:
                asked_at, channel = asked.popleft()
                progress = self._progress.get(channel)
                if progress is None or progress.asked_at != asked_at:
                    continue
                if progress.sent > progress.asked:
                    ask(channel, self._ask(progress, now))
                else:
                    self._rest(channel)

    def forget(self, channel: str) -> None:
        """Nobody listens to a channel any more; what is still on its way proves nothing."""
        self._rest(channel)
        if (number := self._numbers.pop(channel, None)) is not None:
            del self._channels[number]

    def pong(self, connection: Connection, payload: bytes) -> None:
        """Take a pong; one that answers no question of ours proves nothing here."""
        question = self._questions.get(payload)
        if question is not None:
            progress, oldest = question
            progress.answered = True
            self._answer(connection, progress.channel, progress.asked, oldest)
        elif payload.startswith(_MARK) and (answer := _ANSWER.fullmatch(payload)) is not None:
            # To an earlier question, or to one that was asked of this connection only.
            channel = self._channels.get(int(answer[1]))
            if channel is not None:
                upto = int(answer[2])
                self._answer(connection, channel, upto, upto)

    def _answer(self, connection: Connection, channel: str, upto: int, oldest: int) -> None:
        # An id above all that was sent is of a log that Redis has lost since it was asked about.
        if upto <= connection.sent_upto(channel):
            self._prove(connection, channel, upto, oldest)

    def confirm(self, connection: Connection, channel: str, upto: int) -> None:
        """Note that a connection's user has everything in ``channel`` up to ``upto``.

        A client can claim what it likes, so no more counts than this connection was sent.
        """
        proven = min(upto, connection.sent_upto(channel))
        self._prove(connection, channel, proven, proven)

    def _prove(self, connection: Connection, channel: str, upto: int, oldest: int) -> None:
        """All up to ``upto`` has arrived; ``oldest`` is the one of these that has waited longest to be asked about."""
        subscription = connection.subscriptions.get(channel)
        if subscription is not None:
            # Only what is the same: a lower id is news where Redis has lost what was above it.
            if upto == subscription.proven:
                return
            # What it was not sent on this connection is not confirmed by it.
            after = subscription.confirmed_upto
            if self._traced is not None:
                self._traced(channel, after, upto)
            if self._watching.active:
                began = subscription.began != NO_POSITION
                self._watching.confirmed(channel, connection, after if began else None, upto)
            # What was published before waited for its user, and not for this node.
            first = oldest if oldest > max(connection.entered_at, after) else upto
            subscription.proven = upto
            if first > connection.entered_at:
                self._timings.confirmed(first)
        if upto > 0:
            self._positions.advance(channel, connection.user, upto)
            if self._told is not None:
                self._told(channel, connection.user, upto)

    def begins(self, channel: str, user: str, position: int) -> None:
        """Note where a user begins who was not in ``channel`` before: from here on a loss is one."""
        self._positions.advance(channel, user, position)

    def awaits(self, channel: str, user: str) -> None:
        """Note that a user waits for a channel's first message, who was not in it before."""
        if self._awaited.take(user, self._clock()):
            self.begins(channel, user, 0)

    def departed(self) -> None:
        """A connection has closed; its user may be back in a moment, on another node."""
        self._positions.hurry()

    def _ask(self, progress: _Progress, now: float) -> bytes:
        # Without messages in between it would have been forgotten.
        regular = progress.answered
        progress.interval = self._interval * _LONGER if regular else self._interval
        progress.room = self._room(progress.channel) if regular else 0
        progress.answered = False
        progress.since = 0
        self._questions.pop(self._payload(progress.channel, progress.asked), None)
        progress.asked = progress.sent
        progress.asked_at = now
        self._asked[progress.interval].append((now, progress.channel))
        payload = self._payload(progress.channel, progress.asked)
        self._questions[payload] = progress, progress.oldest
        progress.oldest = 0
        return frames.ping(payload)

    def _room(self, channel: str) -> int:
        """How many messages may come in a longer interval."""
        kept = retention_of(channel, self._namespaces)
        if kept is None or kept.max_age_seconds < self._interval * _LONGER * _PART:
            return 0
        return kept.max_messages // _PART

    def _rest(self, channel: str) -> None:
        """Nothing is asked about a channel for now."""
        if (progress := self._progress.pop(channel, None)) is not None:
            self._questions.pop(self._payload(channel, progress.asked), None)

    def _payload(self, channel: str, upto: int) -> bytes:
        number = self._numbers.get(channel)
        if number is None:
            number = self._numbers[channel] = next(self._next_number)
            self._channels[number] = channel
        return b"c%d:%d" % (number, upto)
