"""What happens in channels and to users that an operator looks at just now.

Nobody looks at most of them, and mostly nobody looks at all: then ``active`` is false, which is all that the hot path reads.
Nothing here waits: what happens is noted, and ``inquiries.py`` sends it to who has asked.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.node.connection import Connection, Subscription
from gateway.node.outboxes import Outboxes
from gateway.node.ports import Clock
from gateway.node.timings import RedisClock
from publisher.contract.inspection import USER, Watch, readable
from publisher.contract.message import Message

MOST_WATCHES: Final = 50
"""At a time. Who asks for one more is told that this node does not take part."""
MOST_EVENTS: Final = 500
"""That wait for one watch; what is more is counted and not told."""
LONGEST_SECONDS: Final = 60.0


@dataclass(slots=True)
class Watched:
    """What has happened for one who watches, and is not sent yet."""

    asker: str
    about: str
    name: str
    namespaces: frozenset[str] | None
    until: float
    events: deque[dict[str, Any]] = field(default_factory=deque)
    left_out: int = 0

    def wants(self, channel: str | None, whose: str | None) -> bool:
        """Whether it is about this channel, or this user, and may be told to who watches."""
        named = whose if self.about == USER else channel
        return self.name == named and (channel is None or readable(channel, self.namespaces))

    def note(self, event: dict[str, Any]) -> None:
        """Keep what has happened, if there is room."""
        if len(self.events) < MOST_EVENTS:
            self.events.append(event)
        else:
            self.left_out += 1

    def take(self) -> tuple[list[dict[str, Any]], int]:
        """What has happened since this was called last, and how much more."""
        events, left_out = list(self.events), self.left_out
        self.events.clear()
        self.left_out = 0
        return events, left_out


class Watching:
    """Notes what happens to what is watched.

    ``active``: whether anything is. ``watches``: by their ids.

    Args:
        node: this one's id.
        clock: monotonic, in seconds.
        wall_clock: seconds since 1970, for as long as Redis has not told its time.
        redis_clock: so that what several nodes tell can be put in order, and follows a message's id.
    """

    def __init__(self, node: str, clock: Clock, wall_clock: Clock, redis_clock: RedisClock) -> None:
        self.active = False
        self.watches: dict[str, Watched] = {}
        self._node = node
        self._clock = clock
        self._wall_clock = wall_clock
        self._redis_clock = redis_clock
        self._fresh: list[tuple[str, int, int, int]] = []

    def begin(self, watch: Watch) -> bool:
        """Watch, or go on to; whether there is room for it."""
        until = self._clock() + min(watch.seconds, LONGEST_SECONDS)
        known = self.watches.get(watch.id)
        if known is not None:
            known.until = until
        elif len(self.watches) < MOST_WATCHES:
            namespaces = None if watch.namespaces is None else frozenset(watch.namespaces)
            watched = Watched(watch.asker, watch.about, watch.name, namespaces, until)
            self.watches[watch.id] = watched
        self.active = bool(self.watches)
        return watch.id in self.watches

    def end(self, id: str) -> None:
        """Watch no more."""
        self.watches.pop(id, None)
        self.active = bool(self.watches)

    def expire(self) -> None:
        """End the watches that nobody has renewed."""
        now = self._clock()
        for id, each in list(self.watches.items()):
            if now >= each.until:
                self.end(id)

    # -- what happens -----------------------------------------------------------------------------

    def distributed(
        self, channel: str, messages: Sequence[Message], receivers: int, outboxes: Outboxes
    ) -> None:
        """Live messages are laid into the outboxes of so many connections."""
        if not any(each.wants(channel, None) for each in self.watches.values()):
            return
        if not self._fresh:
            asyncio.get_running_loop().call_soon(self._written, outboxes)
        now = self._now()
        self._fresh += [(channel, each.id, now, receivers) for each in messages[-MOST_EVENTS:]]
        del self._fresh[:-MOST_EVENTS]

    def _written(self, outboxes: Outboxes) -> None:
        """The turn has ended; all is written, unless it is more than a turn bears."""
        if outboxes.scheduled:
            asyncio.get_running_loop().call_soon(self._written, outboxes)
            return
        fresh, self._fresh = self._fresh, []
        now = self._now()
        for channel, message, received, receivers in fresh:
            told = {"message": message, "received": received, "receivers": receivers}
            self._note(channel, None, kind="written", node=self._node, at=now, **told)

    def replayed(self, channel: str, connection: Connection, messages: Sequence[Message]) -> None:
        """A connection was sent what it has missed, from the log."""
        told = {"first": messages[0].id, "last": messages[-1].id, "messages": len(messages)}
        self._of(connection, channel, "replayed", **told)

    def confirmed(self, channel: str, connection: Connection, after: int | None, upto: int) -> None:
        """A connection has everything in a channel up to ``upto``, and not only up to ``after`` any more.

        ``None`` for a client that has come back and shows by that what it has: it was sent that on another connection.
        """
        known = {} if after is None else {"after": after}
        self._of(connection, channel, "confirmed", **known, up_to=upto)

    def connected(self, connection: Connection) -> None:
        """A connection has begun."""
        self._of(connection, None, "connected")

    def disconnected(self, connection: Connection) -> None:
        """A connection is over."""
        self._of(connection, None, "disconnected")

    def subscribed(self, subscription: Subscription) -> None:
        """A subscription has begun."""
        self._of(subscription.connection, subscription.channel.name, "subscribed")

    def unsubscribed(self, subscription: Subscription) -> None:
        """A subscription has ended."""
        self._of(subscription.connection, subscription.channel.name, "unsubscribed")

    def lost(self, channel: str, users: Iterable[str]) -> None:
        """Users have lost messages that they had not confirmed."""
        for user in users:
            self._note(channel, user, kind="lost", user=user, at=self._now())

    def _of(self, connection: Connection, channel: str | None, kind: str, **more: int) -> None:
        self._note(
            channel,
            connection.user,
            kind=kind,
            connection=f"{self._node}/{connection.id}",
            user=connection.user,
            at=self._now(),
            **more,
        )

    def _note(self, channel: str | None, whose: str | None, **event: Any) -> None:
        if channel is not None:
            event["channel"] = channel
        for each in self.watches.values():
            if each.wants(channel, whose):
                each.note(event)

    def _now(self) -> int:
        now = self._redis_clock.now()
        return round(self._wall_clock() * 1e6) if now is None else now


def nobody() -> Watching:
    """One through which nothing is watched."""
    return Watching("", lambda: math.inf, lambda: 0.0, RedisClock(lambda: 0.0))
