"""All state of a node's clients: connections, their subscriptions, and the channels that the node listens to."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from gateway.core import protocol
from gateway.core.access import ChannelPass, Identity
from gateway.core.budget import Budget
from gateway.core.encodings import Encoding
from gateway.core.reader import Buffer, Reader
from gateway.node.ports import Socket
from publisher.contract import channels
from publisher.contract.message import NO_POSITION, Message

_REPLAYS_AT_ONCE: Final = 8
"""Pages of the log that may be on their way to one client, whatever the number of its channels."""


class Connection:
    """A client's socket, who they are, and what they listen to.

    ``address`` is the client's; ``None`` when it is not known. ``entered_at`` is when it was given its place, in
    microseconds of the clock of Redis; ``begun`` is about the same moment, in seconds of the node's clock. ``outbox`` holds what is due to the socket in this turn
    of the event loop; the hub writes it.
    ``positions`` holds the last id sent in channels that the client has left: coming back on the same connection
    repeats nothing. Only so many are kept; ``forgetful`` says that there were more. ``behind``: too much waits for the
    client to take it, so it is left out of live delivery (``catchup.py``). ``replays`` is held while the client takes
    what waits for it and the next page of the log is read. ``refreshing`` puts another token in force. ``paused``: it may
    hear nothing for now, in any channel; set when it may. ``pauses``: for how many reasons.
    """

    __slots__ = (
        "_paying",
        "address",
        "begun",
        "behind",
        "budget",
        "closed",
        "entered_at",
        "forgetful",
        "id",
        "identity",
        "outbox",
        "paused",
        "pauses",
        "positions",
        "refreshing",
        "replays",
        "socket",
        "subscriptions",
        "write",
    )

    def __init__(
        self,
        id: str,
        identity: Identity,
        socket: Socket,
        budget: Budget,
        address: str | None = None,
        entered_at: int = 0,
        begun: float = 0.0,
    ) -> None:
        self.id = id
        self.identity = identity
        self.socket = socket
        self.write = socket.write  # looked up once: it is what a fan-out does most
        self.budget = budget
        self.address = address
        self.entered_at = entered_at
        self.begun = begun
        self.outbox = b""
        self.closed = False
        self.behind = False
        self.paused: asyncio.Event | None = None
        self.pauses = 0
        self.replays = asyncio.Semaphore(_REPLAYS_AT_ONCE)
        self._paying: asyncio.Lock | None = None
        self.refreshing: asyncio.Task[None] | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.positions: dict[str, int] = {}
        self.forgetful = False

    @property
    def paying(self) -> asyncio.Lock:
        """Held by what waits for the budget; the rest waits behind that (``pacing.py``). Few connections need it."""
        if self._paying is None:
            self._paying = asyncio.Lock()
        return self._paying

    async def refreshed(self) -> None:
        """Return once the token that it has shown last is in force, or refused."""
        while self.refreshing is not None:
            await asyncio.wait([self.refreshing])

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
            self.forgetful = True

    def repeats_upto(self, channel: str) -> float:
        """The id up to which messages of a channel it is not in may have been sent on it before; -1 for none."""
        return self.positions.get(channel, math.inf if self.forgetful else NO_POSITION)

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r}>"


class Subscription(Reader):
    """Where a connection stands in a channel.

    It is a reader of its own until it is ``live``; from then on it shares the channel's place. ``away``:
    nothing is kept for it, because its client is too slow for live delivery, or takes a page of the log
    before the next one is read. ``interested``: the node listens to the channel on its behalf. ``answers``
    counts the requests that wait for their answer. ``paused``: it may hear nothing for now; set when it may.
    ``passed``: what the channel token allows that it goes by, if it goes by one. ``request``: what its client has asked for,
    while that waits for its answer.
    ``proven``: the id up to which the client has shown last that it has everything; 0 for none. ``began``: the id behind which
    it is sent everything on this connection; -1 before it begins. ``asked_who``: the client has asked who is in the channel.
    """

    __slots__ = (
        "answers",
        "asked_who",
        "away",
        "began",
        "channel",
        "connection",
        "interested",
        "live",
        "passed",
        "paused",
        "proven",
        "request",
        "task",
    )

    def __init__(self, connection: Connection, channel: channels.Channel) -> None:
        super().__init__()
        self.connection = connection
        self.channel = channel
        self.away = False
        self.asked_who = False
        self.interested = False
        self.live: Channel | None = None
        self.passed: ChannelPass | None = None
        self.paused: asyncio.Event | None = None
        self.answers = 1
        self.request: protocol.Subscribe | None = None
        self.proven = 0
        self.began = NO_POSITION
        self.task: asyncio.Task[None] | None = None

    @property
    def sent_upto(self) -> int:
        """The last id that its connection was sent."""
        return self.position if self.live is None else self.live.position

    @property
    def confirmed_upto(self) -> int:
        """The id up to which its client has all that it was to be sent on this connection."""
        return max(self.began, self.proven)

    @property
    def pause(self) -> asyncio.Event | None:
        """What keeps it from hearing anything: a pause of its own, or of its connection."""
        return self.paused or self.connection.paused

    async def resumed(self) -> None:
        """Return once neither it nor its connection is paused."""
        while (pause := self.pause) is not None:
            await pause.wait()


class Channel(Reader):
    """What comes live in a channel, and who is to hear it: the reader for all of its ``members``.

    The members are grouped by how they want their messages. ``pending`` came in this turn of the event
    loop. ``buffer`` keeps what comes live for those who read the log; ``None`` while nobody does.
    ``away`` counts the subscriptions for which nothing is kept. Without members the position says nothing.
    """

    __slots__ = ("away", "buffer", "keeps_log", "members", "name", "pending", "prefix")

    def __init__(self, channel: channels.Channel, *, keeps_log: bool) -> None:
        super().__init__()
        self.name = channel.name
        self.keeps_log = keeps_log
        self.prefix = protocol.data_prefix(channel)
        self.pending: list[Message] = []
        self.buffer: Buffer | None = None
        # Dictionaries, for their order: who came together lies together in memory, where a fan-out goes through all.
        self.members: dict[Encoding, dict[Connection, None]] = {}
        self.away = 0

    def begin_buffering(self) -> Buffer:
        """Keep what comes live from now on, until :meth:`end_buffering` is called for each who reads the log."""
        buffer = self.buffer
        if buffer is None:
            buffer = self.buffer = Buffer()
        buffer.readers += 1
        return buffer

    def end_buffering(self, buffer: Buffer) -> None:
        """One who read the log has what it wants of ``buffer``."""
        buffer.readers -= 1
        if not buffer.readers:
            self.buffer = None

    def enter(self, subscription: Subscription) -> None:
        """Give a subscription its place among the members."""
        connection = subscription.connection
        subscription.live = self
        self.members.setdefault(connection.socket.encoding, {})[connection] = None

    def take_out(self, subscription: Subscription) -> None:
        """Take a subscription from wherever it stands; one that stands nowhere is no error."""
        if subscription.away:
            subscription.away = False
            self.away -= 1
        if subscription.live is None:
            return
        subscription.position = self.position
        subscription.told_upto = max(subscription.told_upto, self.told_upto)
        subscription.live = None
        encoding = subscription.connection.socket.encoding
        members = self.members[encoding]
        members.pop(subscription.connection, None)
        if not members:
            del self.members[encoding]

    def subscriptions(self) -> list[Subscription]:
        """The subscriptions of all members."""
        return [
            connection.subscriptions[self.name]
            for members in self.members.values()
            for connection in members
        ]
