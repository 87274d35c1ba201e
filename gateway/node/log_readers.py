"""For whom the log of a channel is read: one subscription that is not live, or all members of a channel."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Final

from gateway.core import budget, protocol
from gateway.core.reader import Reader, Taken
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel, Subscription
from gateway.node.hub import Hub
from gateway.node.pacing import Pacing
from gateway.node.stalls import Patience
from publisher.contract.message import NO_POSITION
from publisher.contract.sealing import is_sealed

log = logging.getLogger(__name__)

NOBODY: Final = ""


class Audience(ABC):
    """For whom the log of a channel is read, and how they are told of it.

    ``user`` is whose confirmed position counts; empty for nobody's. ``claimed`` is a position that a client
    claims to have and that has not been compared with the log yet. ``by_since``: the reading began at such a position.
    ``remembered`` is what this node knows to have been sent, taken before the page is asked for: what is confirmed
    meanwhile is not missing from it.
    """

    __slots__ = ("by_since", "channel", "claimed", "reader", "remembered", "user")

    def __init__(
        self, channel: Channel, reader: Reader, user: str = NOBODY, since: int | None = None
    ) -> None:
        self.channel = channel
        self.reader = reader
        self.user = user
        self.claimed = since
        self.by_since = since is not None
        self.remembered = NO_POSITION

    def asks_from(self) -> int | None:
        """The id after which to read; ``None`` for what the user has confirmed, which Redis knows."""
        return self.reader.position

    @property
    def users(self) -> Collection[str]:
        """Whose messages they are."""
        return (self.user,)

    @property
    @abstractmethod
    def listens(self) -> bool:
        """Whether anybody is there to be sent anything."""

    @abstractmethod
    async def ready(self) -> None:
        """Wait until another page may be written."""

    async def resumed(self) -> None:
        """Wait while the audience may be given nothing."""
        return

    @abstractmethod
    def done(self) -> None:
        """A page was written, or will not be: the next one may be."""

    @abstractmethod
    def forget_positions(self) -> None:
        """Forget what was sent before: it is not in this log."""

    @abstractmethod
    def give(self, taken: Taken, start: int, *, lost: bool) -> None:
        """Send what was taken from ``start`` on; before it, where something is ``lost``, that it is."""

    @abstractmethod
    def settle(self, taken: Taken) -> bool:
        """Whether there is nothing left to read; lets the audience hear what comes live."""


class Members(Audience):
    """All live members of a channel."""

    __slots__ = ("_confirmation", "_hub")

    def __init__(self, channel: Channel, hub: Hub, confirmation: Confirmation) -> None:
        super().__init__(channel, channel)
        self._hub = hub
        self._confirmation = confirmation

    @property
    def users(self) -> Collection[str]:
        """Those of all members."""
        return {each.connection.user for each in self.channel.subscriptions()}

    @property
    def listens(self) -> bool:
        """Whether there are members still."""
        return bool(self.channel.members)

    async def ready(self) -> None:
        """Wait until the page before is written."""
        while self._hub.outboxes.congested:  # noqa: ASYNC110 - it is over in some turns
            await asyncio.sleep(0)  # each turn writes a part of the page before this one

    def done(self) -> None:
        """The hub says when the next page may be written."""

    def forget_positions(self) -> None:
        """Forget what the members were sent, and what they are being asked about."""
        # A pong that is still on its way answers for ids of the lost log.
        self._confirmation.forget(self.channel.name)
        for subscription in self.channel.subscriptions():
            subscription.connection.positions.pop(self.channel.name, None)
            subscription.proven = 0

    def give(self, taken: Taken, start: int, *, lost: bool) -> None:
        """Send it to all of them."""
        name = self.channel.name
        if lost:
            self._hub.tell_all(name, protocol.messages_lost(name))
            for subscription in self.channel.subscriptions():
                subscription.began = _before(taken, self.reader)
        # What is not logged has come live, and went out as it came.
        logged = [message for message in taken.messages if message.logged]
        self._hub.stats.messages_repaired += len(logged)
        self._hub.advance(self.channel, logged)
        if not logged and self.channel.position != start:
            self._hub.ask_all(name, self._confirmation.sent(name, self.channel.position))

    def settle(self, taken: Taken) -> bool:
        """Whether the channel stands where its log ends.

        Raises:
            MissingKey: this node cannot open what follows.
        """
        if taken.unknown is not None:
            if is_sealed(taken.unknown):
                raise MissingKey
            self._hub.stop(self.channel)
        return taken.complete


class MissingKey(Exception):
    """A subscription cannot begin, or go on: this node cannot open the next message of its channel, which was logged
    (``opener.py``). Another node may have the key.
    """


class One(Audience):
    """One subscription that is not live; it has begun when no request waits for its answer any more."""

    __slots__ = (
        "_begun",
        "_confirmation",
        "_connection",
        "_hub",
        "_pacing",
        "_patience",
        "_repeats_upto",
        "_subscription",
        "_writes",
    )

    def __init__(
        self,
        channel: Channel,
        subscription: Subscription,
        hub: Hub,
        confirmation: Confirmation,
        patience: Patience,
        pacing: Pacing,
        since: int | None,
    ) -> None:
        super().__init__(channel, subscription, subscription.connection.user, since)
        self._subscription = subscription
        self._connection = subscription.connection
        self._hub = hub
        self._confirmation = confirmation
        self._patience = patience
        self._pacing = pacing
        self._writes = False
        self.remembered = self._connection.positions.get(channel.name, NO_POSITION)
        # One that has begun goes on where it stands, and so is sent nothing again.
        self._repeats_upto = (
            self._connection.repeats_upto(channel.name) if subscription.answers else NO_POSITION
        )

    @property
    def listens(self) -> bool:
        """Whether its connection is open."""
        return not self._connection.closed

    def asks_from(self) -> int | None:
        """Where it stands, once it has begun."""
        return self.claimed if self._subscription.answers else self.reader.position

    async def ready(self) -> None:
        """Wait until its client has taken most of what was written, of this channel and of others.

        What the client was sent before, it gets again no faster than its budget bears.
        """
        await self._subscription.resumed()
        await self._acquire()
        while self._repeats and not self._pacing.due(self._connection):
            # The client's other channels have their pages meanwhile.
            self.done()
            await self._pacing.ready(self._connection)
            await self._acquire()
        await self._patience.drained(self._connection)
        self.channel.take_out(self._subscription)

    @property
    def _repeats(self) -> bool:
        """Whether the next page begins with what the client was sent before."""
        asked = self.asks_from()
        return (self.remembered if asked is None else asked) < self._repeats_upto

    async def _acquire(self) -> None:
        await self._connection.replays.acquire()
        self._writes = True

    def done(self) -> None:
        """Let another channel of the client have its page."""
        if self._writes:
            self._writes = False
            self._connection.replays.release()

    async def resumed(self) -> None:
        """Wait while its access is being rechecked; the client's other channels have their pages meanwhile."""
        while self._subscription.pause is not None:
            self.done()
            await self._subscription.resumed()
            await self._acquire()

    def forget_positions(self) -> None:
        """Forget what its connection was sent when it was in the channel before."""
        self._connection.positions.pop(self.channel.name, None)
        self._subscription.proven = 0
        self._repeats_upto = NO_POSITION

    def give(self, taken: Taken, start: int, *, lost: bool) -> None:
        """Answer the request, where it is not answered yet, and send what was taken.

        Raises:
            MissingKey: it would never hear what follows.
        """
        if taken.unknown is not None and is_sealed(taken.unknown) and self._subscription.answers:
            raise MissingKey
        hub, connection, name = self._hub, self._connection, self.channel.name
        began = _before(taken, self.reader) if lost else start
        if self._subscription.answers:
            claimed, self.claimed = self.claimed, None
            recovered = None if claimed is None and not lost else not lost
            answer(hub, self._subscription, recovered, began)
            if claimed is not None and not (lost or connection.socket.encoding.asks):
                # A client that cannot be asked shows what it has by the position with which it comes back.
                self._confirmation.confirm(connection, name, claimed)
            self._subscription.began = began
        elif lost:
            hub.tell(connection, protocol.messages_lost(name))
            self._subscription.began = began
        self._charge(taken)
        hub.replay(self.channel, connection, taken.messages)
        if self.reader.position != start:
            hub.ask(connection, self._confirmation.replayed(name, self.reader.position))

    def _charge(self, taken: Taken) -> None:
        again = [
            len(each.body)
            for each in taken.messages
            if each.logged and each.id <= self._repeats_upto
        ]
        if again:
            cost = len(again) * budget.REPEATED_MESSAGE + sum(again) * budget.REPEATED_BYTE
            self._connection.budget.owe(cost)

    def settle(self, taken: Taken) -> bool:
        """Go live after the last page; else write this one and be ready for the next.

        Raises:
            MissingKey: this node cannot open what follows.
        """
        if taken.unknown is not None:
            if is_sealed(taken.unknown):
                raise MissingKey
            return True  # it stays in front of that message
        if taken.complete and self._goes_live(taken):
            return True
        self._hub.set_away(self.channel, self._subscription)
        # A page goes out before the next is read, so that a slow client costs one page.
        self._hub.flush_to(self._connection)
        return False

    def _goes_live(self, taken: Taken) -> bool:
        channel, reader = self.channel, self.reader
        if channel.members:
            ahead = [each for each in taken.messages if each.logged and each.id > channel.position]
            if ahead and ahead[0].follows(channel.position):
                self._hub.advance(channel, ahead)
            if channel.position != reader.position:
                return False
        else:
            channel.position, channel.told_upto = reader.position, reader.told_upto
        self._hub.go_live(channel, self._subscription)
        return True


def _before(taken: Taken, reader: Reader) -> int:
    """Behind which id whoever has lost something goes on."""
    return next((each.prev for each in taken.messages if each.logged), reader.position)


def answer(
    hub: Hub, subscription: Subscription, recovered: bool | None, position: int | None
) -> None:
    """Answer all requests that wait for a subscription to begin."""
    told = protocol.subscribed(subscription.channel.name, recovered, position)
    hub.tell(subscription.connection, *[told] * subscription.answers)
    subscription.answers = 0
    subscription.request = None
    hub.event_log.subscribed(subscription)
