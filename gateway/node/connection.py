"""One client's connection, its subscriptions, and the channels that this node listens to: all state of a node's clients.

The state of one client's connection.

One connection's subscription to one channel, and the messages kept for it while it reads the log.

A channel that this node listens to.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.core import protocol
from gateway.core.access import Identity
from gateway.core.frames import Encoding
from gateway.core.timing import TokenBucket
from gateway.node.ports import Socket
from publisher.contract.channels import Channel
from publisher.contract.message import Message

_REPLAYS_AT_ONCE: Final = 8
"""Pages of the log that may be on their way to one client, whatever the number of its channels."""


class Connection:
    """A client's socket, who they are, and what they listen to.

    ``outbox`` holds what is due to the socket in this turn of the event loop; the hub writes it.
    ``positions`` holds the last id sent in channels the client has left, so that coming back on the
    same connection repeats nothing. ``behind``: too much waits for the client to take it, so it is left
    out of live delivery (``slow_consumers.py``). ``replays`` is held while the client takes what waits for
    it and the next page of the log is read.
    """

    __slots__ = (
        "behind",
        "bucket",
        "closed",
        "id",
        "identity",
        "outbox",
        "positions",
        "replays",
        "socket",
        "subscriptions",
        "write",
    )

    def __init__(self, id: str, identity: Identity, socket: Socket, bucket: TokenBucket) -> None:
        self.id = id
        self.identity = identity
        self.socket = socket
        self.write = socket.write  # looked up once: it is what a fan-out does most
        self.bucket = bucket
        self.outbox = b""
        self.closed = False
        self.behind = False
        self.replays = asyncio.Semaphore(_REPLAYS_AT_ONCE)
        self.subscriptions: dict[str, Subscription] = {}
        self.positions: dict[str, int] = {}

    @property
    def user(self) -> str:
        """The id of the user behind the connection."""
        return self.identity.user

    def sent_upto(self, channel: str) -> int:
        """The last id it was sent in a channel; 0 for none, and for channels it was not let into."""
        subscription = self.subscriptions.get(channel)
        here = subscription.sent_upto if subscription is not None else 0
        return max(here, self.positions.get(channel, 0))

    def remember(self, channel: str, position: int, limit: int) -> None:
        """Keep the last id sent in a channel that is left, of the ``limit`` channels left last."""
        self.positions[channel] = max(position, self.positions.pop(channel, 0))
        if len(self.positions) > limit:
            del self.positions[next(iter(self.positions))]

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r}>"


MAX_HELD: Final = 1_000
MAX_HELD_BYTES: Final = 1024 * 1024
"""Live messages kept while the log is read. More are not lost: the log is read once again."""


class Subscription:
    """Where a connection stands in a channel.

    A subscription *reads* a page of the log while live messages are held for it. Between two pages, and
    while its client is too slow for live delivery, it stands *apart*: nothing is kept for it, the log
    has it all. With the last page it begins to *follow*: what it has read may be ahead of what has come
    live, so it drops repeated messages until a newer one comes, and goes *live*. ``position`` is the
    last id it was given before it went live; from then on ``live`` is the channel it shares its place
    with. Where Redis has lost its data ``position`` goes back to where the log goes on; ``given`` does
    not, so that nothing is given twice.
    """

    __slots__ = (
        "_held_bytes",
        "answers",
        "apart",
        "channel",
        "connection",
        "given",
        "held",
        "interested",
        "live",
        "overflowed",
        "position",
        "reading",
        "task",
    )

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self.connection = connection
        self.channel = channel
        self.position = 0
        self.given = 0
        self.held: list[Message] = []
        self._held_bytes = 0
        self.reading = False
        self.overflowed = False
        self.apart = False
        self.interested = False
        self.live: LiveChannel | None = None
        self.answers = 1
        self.task: asyncio.Task[None] | None = None

    @property
    def sent_upto(self) -> int:
        """The last id that its connection was sent."""
        return self.position if self.live is None else self.live.last

    def offer(self, message: Message) -> bool:
        """Take a live message before going live; ``True`` when the subscription should go live with it."""
        if not self.reading:
            return not message.logged or message.id > max(self.position, self.given)
        self._held_bytes += len(message.body)
        if len(self.held) < MAX_HELD and self._held_bytes <= MAX_HELD_BYTES:
            self.held.append(message)
        else:
            self.overflowed = True
        return False

    def read(self) -> None:
        """Begin to read a page of the log: what was held before is in it."""
        self.reading = True
        self.held.clear()
        self._held_bytes = 0
        self.overflowed = False

    def stop_reading(self) -> int:
        """Keep no more messages; returns how many of those that were kept are in no log."""
        self.reading = False
        unlogged = sum(not message.logged for message in self.held)
        self.held.clear()
        return unlogged


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
