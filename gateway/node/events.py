"""What a node tells backends of: its users' connections and subscriptions, and what they have confirmed or lost.

Nothing here waits for Redis: what happens is noted, and ``backplane/event_writer.py`` writes it soon. Where nobody has asked for events nothing is
noted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.node.connection import Connection, Subscription
from gateway.node.stats import Stats
from gateway.node.watching import Watching, nobody
from publisher.contract import events
from publisher.contract.calls import Argument
from publisher.contract.events import Change, Told, told

WAITING: Final = 20_000
"""So many events wait while Redis is away; what comes then is counted and not told. They take about 15 MB."""


class EventLog:
    """The events of a node that are not written yet.

    ``present`` are its connections, and whose they are. ``incomplete``: the beginning or the end of some was not noted, so what Redis knows of
    them has to be compared with ``present``.

    Args:
        kinds: the events that are told; none for nothing at all.
        wall_clock: seconds since 1970.
        watching: told of the same, for operators; without one nobody is.
    """

    def __init__(
        self,
        kinds: Collection[str],
        node: str,
        wall_clock: Callable[[], float],
        stats: Stats,
        watching: Watching | None = None,
    ) -> None:
        self.watching = watching or nobody()
        self.kinds = frozenset(kinds)
        self.follows = not self.kinds.isdisjoint({events.CONNECTED, events.DISCONNECTED})
        self.present: dict[str, str] = {}
        self.incomplete = False
        self._node = node
        self._wall_clock = wall_clock
        self._stats = stats
        self._waiting: deque[Told] = deque()
        # Those of the waiting that say what is confirmed, by channel and user.
        self._confirmed: dict[tuple[str, str], Told] = {}

    def connected(self, connection: Connection) -> None:
        """A connection has begun."""
        if self.watching.active:
            self.watching.connected(connection)
        if self.follows:
            member = self._member(connection)
            self.present[member] = connection.user
            self._note(self.beginning(member, connection.user))

    def disconnected(self, connection: Connection) -> None:
        """A connection is over, and all its subscriptions with it."""
        if self.watching.active:
            self.watching.disconnected(connection)
        if self.follows and self.present.pop(member := self._member(connection), None) is not None:
            self._note(self.end(member, connection.user))

    def beginning(self, member: str, user: str) -> Told:
        """That a connection (``<node>/<id>``) has begun."""
        return self._told(events.CONNECTED, user, change="+", connection=member)

    def end(self, member: str, user: str) -> Told:
        """That a connection is over."""
        return self._told(events.DISCONNECTED, user, change="-", connection=member)

    def subscribed(self, subscription: Subscription) -> None:
        """A subscription has begun."""
        if self.watching.active:
            self.watching.subscribed(subscription)
        self._subscription(events.SUBSCRIBED, subscription)

    def unsubscribed(self, subscription: Subscription) -> None:
        """A subscription has ended before its connection."""
        if self.watching.active:
            self.watching.unsubscribed(subscription)
        self._subscription(events.UNSUBSCRIBED, subscription)

    def _subscription(self, kind: str, subscription: Subscription) -> None:
        if kind in self.kinds:
            connection, channel = subscription.connection, subscription.channel.name
            member = self._member(connection)
            self._note(self._told(kind, connection.user, connection=member, channel=channel))

    def confirmed(self, channel: str, user: str, upto: int) -> None:
        """A user has everything in a channel up to an id. Of several that wait the last is told, at the place of the first."""
        event = self._told(events.CONFIRMED, user, channel=channel, message=upto)
        waiting = self._confirmed.get((channel, user))
        if waiting is not None:
            waiting.fields = event.fields
        elif len(self._confirmed) >= WAITING:
            self._stats.events_dropped += 1
        else:
            self._confirmed[channel, user] = event
            self._waiting.append(event)

    def lost(self, channel: str, users: Iterable[str]) -> None:
        """Users have lost messages of a channel that they had not confirmed."""
        if self.watching.active:
            self.watching.lost(channel, users)
        if events.LOST in self.kinds:
            for user in users:
                self._note(self._told(events.LOST, user, channel=channel))

    def take(self, most: int) -> list[Told]:
        """The next events to write, in their order, at most so many."""
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        for each in taken:
            named = dict(zip(each.fields[::2], each.fields[1::2], strict=True))
            if named["kind"] == events.CONFIRMED:
                del self._confirmed[str(named["channel"]), str(named["user"])]
        return taken

    def dropped(self, count: int) -> None:
        """So many events are not told."""
        self._stats.events_dropped += count
        self.incomplete = True

    def _note(self, event: Told) -> None:
        if len(self._waiting) - len(self._confirmed) < WAITING:
            self._waiting.append(event)
        else:
            self.dropped(1)

    def _told(self, kind: str, user: str, change: Change = "", **further: Argument) -> Told:
        moment = int(self._wall_clock() * 1000)
        tell = kind in self.kinds
        return told(kind, user, self._node, moment, change=change, tell=tell, **further)

    def _member(self, connection: Connection) -> str:
        return f"{self._node}/{connection.id}"
