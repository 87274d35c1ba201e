"""A channel that this node listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core import protocol
from gateway.core.frames import Encoding
from publisher.channels import Channel
from publisher.message import Message

if TYPE_CHECKING:
    from gateway.node.connection import Connection
    from gateway.node.subscription import Subscription


class LiveChannel:
    """What comes live in a channel, and who is to hear it.

    ``last`` is the id of the newest logged message that came. ``pending`` came in this turn of the
    event loop. ``members`` receive live messages, grouped by how they want them; ``joining`` are
    reading the log, or following it (an ordered set); ``apart`` counts those that wait for their
    client before they read on. ``held`` came while a gap before it is being read from the log
    (``repair.py``); ``None`` when there is none.
    """

    __slots__ = (
        "apart",
        "held",
        "held_bytes",
        "joining",
        "last",
        "members",
        "name",
        "namespace",
        "overflowed",
        "pending",
        "prefix",
    )

    def __init__(self, channel: Channel) -> None:
        self.name = channel.name
        self.namespace = channel.namespace
        self.prefix = protocol.data_prefix(channel)
        self.last = 0
        self.pending: list[Message] = []
        self.held: list[Message] | None = None
        self.held_bytes = 0
        self.overflowed = False
        self.members: dict[Encoding, set[Connection]] = {}
        self.joining: dict[Subscription, None] = {}
        self.apart = 0

    def hold_back(self) -> list[Message]:
        """Keep what comes from now on, in the list returned; what was kept before is in the log by now."""
        self.held = []
        self.held_bytes = 0
        self.overflowed = False
        return self.held

    def enter(self, subscription: Subscription) -> None:
        """Give a subscription its place among the members."""
        connection = subscription.connection
        subscription.live = self
        self.members.setdefault(connection.socket.encoding, set()).add(connection)

    def misses(self, message: Message) -> bool:
        """Whether ``message`` names another one before it than came last, or than somebody has read.

        Either that has not come, or Redis has lost what came last. The first message is measured by
        those who have read the log; while there are none, nothing is known.
        """
        if not self.last and not self.members:
            position = self.followed_from()
            if position is None or message.id <= position:
                return False
            self.last = position
        return message.prev != self.last or any(
            not each.reading and message.prev != each.position < message.id for each in self.joining
        )

    def followed_from(self) -> int | None:
        """How far all have read who follow the log; ``None`` if nobody does."""
        return min((each.position for each in self.joining if not each.reading), default=None)

    def take_out(self, subscription: Subscription) -> None:
        """Take a subscription from wherever it stands; one that stands nowhere is no error."""
        self.joining.pop(subscription, None)
        if subscription.apart:
            subscription.apart = False
            self.apart -= 1
        if subscription.live is None:
            return
        subscription.position = self.last
        subscription.given = max(subscription.given, self.last)
        subscription.live = None
        encoding = subscription.connection.socket.encoding
        members = self.members[encoding]
        members.discard(subscription.connection)
        if not members:
            del self.members[encoding]
