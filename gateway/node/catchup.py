"""From the log to live: for whoever begins, comes back, or has missed something.

There is one loop. Live messages are buffered, a page of the log is read and judged, and both are spliced,
until nothing is missing. The order matters: what is published after the buffering began is buffered, and what
was published before is in the log.

The loop reads for one subscription that is not live yet (it has just subscribed, or its client was too slow
for live delivery), or for all members of a channel that has missed something. A subscription that has read
further than its channel brings the channel along, so that both stand at the same message when it goes live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from gateway.core.access import keeps_log
from gateway.core.reader import Taken
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Channel, Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.log_readers import Audience, Members, MissingKey, One, answer
from gateway.node.pacing import Pacing
from gateway.node.presence_changes import PresenceChanges
from gateway.node.recovery import Loss, Pages
from gateway.node.stalls import Patience
from gateway.node.tasks import Tasks
from publisher.contract import channels
from publisher.contract.channels import Namespace
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

_CHECKS_AT_ONCE: Final = 500


class Catchup:
    """Brings subscriptions and channels up to date.

    Args:
        failed: told of a subscription that could not be brought up to date, and why.
    """

    def __init__(
        self,
        hub: Hub,
        interests: Interests,
        pages: Pages,
        confirmation: Confirmation,
        patience: Patience,
        pacing: Pacing,
        tasks: Tasks,
        namespaces: Mapping[str, Namespace],
        failed: Callable[[Subscription, Exception], None],
        max_subscriptions: int,
        presence: PresenceChanges,
    ) -> None:
        self._hub = hub
        self._interests = interests
        self._pages = pages
        self._confirmation = confirmation
        self._patience = patience
        self._pacing = pacing
        self._tasks = tasks
        self._namespaces = namespaces
        self._failed = failed
        self._max_subscriptions = max_subscriptions
        self._presence = presence
        self._repairs: dict[Channel, asyncio.Task[None]] = {}

    def keeps_log(self, channel: channels.Channel) -> bool:
        """Whether the channel's messages are logged."""
        return keeps_log(channel.name, self._namespaces)

    def members(self, channel: channels.Channel) -> int:
        """How many connections are in a channel, or are being brought up to date for it."""
        return self._interests.holders(channel.name)

    def _open(self, channel: channels.Channel) -> Channel:
        return self._hub.open(channel, keeps_log=self.keeps_log(channel))

    # -- subscriptions ------------------------------------------------------------------------

    def start(
        self, subscription: Subscription, way: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Take a subscription to live delivery: ``way`` runs as its task, of which it has one at a time."""
        name = f"bring {subscription.channel.name} up to date"
        subscription.task = self._tasks.spawn(self._go(subscription, way), name)

    async def _go(
        self, subscription: Subscription, way: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        try:
            await way()
        except Exception as error:  # noqa: BLE001 - logged there
            self._failed(subscription, error)
        finally:
            # One that has ended takes a tenth of the memory of an idle connection.
            if subscription.task is asyncio.current_task():
                subscription.task = None

    async def join(self, subscription: Subscription, since: int | None) -> None:
        """Bring an allowed subscription up to date and let it go live. Waits out Redis trouble.

        Raises:
            Unavailable: Redis has answered with an error that does not pass.
        """
        channel = self._open(subscription.channel)
        # First: once the node hears the channel it hears who comes and leaves, too.
        self._presence.enter(subscription.channel, subscription.connection.user)
        confirmed = self._interests.take(channel.name)
        subscription.interested = True
        await asyncio.shield(confirmed)
        if channel.keeps_log:
            await self._catch_up(self._one(channel, subscription, since))
        else:
            await subscription.resumed()
            if subscription.connection.closed:
                return
            answer(self._hub, subscription, None if since is None else False, None)
            self._hub.go_live(channel, subscription)

    def _one(self, channel: Channel, subscription: Subscription, since: int | None = None) -> One:
        parts = self._hub, self._confirmation, self._patience, self._pacing
        return One(channel, subscription, *parts, since)

    def leave(self, subscription: Subscription) -> None:
        """End a subscription, wherever it stands."""
        connection, name = subscription.connection, subscription.channel.name
        connection.subscriptions.pop(name, None)
        if subscription.interested:
            self._hub.leave(self._open(subscription.channel), subscription)
            self._interests.release(name)
            self._presence.leave(subscription.channel, connection.user)
            if not subscription.answers:  # one that has not begun was sent nothing
                if not connection.closed:
                    self._hub.event_log.unsubscribed(subscription)
                connection.remember(name, subscription.position, self._max_subscriptions)
        # A cancelled task keeps what it was about, the subscription too: they would be there until some collection.
        task, subscription.task = subscription.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    # -- clients that take less than is published to them -------------------------------------

    def leave_out(self, connection: Connection) -> None:
        """Take a connection out of live delivery until it has taken most of what waits for it.

        One that hears nothing live, because it still reads the log, waits between its pages anyway.
        """
        live = [each for each in connection.subscriptions.values() if each.live is not None]
        for subscription in live:
            self._hub.set_away(self._open(subscription.channel), subscription)
        if not live or connection.behind or connection.closed:
            return
        connection.behind = True
        self._hub.stats.slow_consumers += 1
        log.info("left_live connection=%s user=%r", connection.id, connection.user)
        self._tasks.spawn(self._take_back(connection), f"wait for {connection.id}")

    async def _take_back(self, connection: Connection) -> None:
        await self._patience.drained(connection)
        connection.behind = False
        for subscription in connection.subscriptions.values():
            self._go_on(subscription)

    # -- subscriptions whose access is being rechecked ----------------------------------------

    def pause(self, subscription: Subscription) -> None:
        """Let a subscription hear nothing until it is resumed. What is not logged is dropped meanwhile."""
        if subscription.paused is None:
            subscription.paused = asyncio.Event()
            if subscription.live is not None:
                self._hub.set_away(subscription.live, subscription)

    def resume(self, subscription: Subscription) -> None:
        """Let a subscription go on from where it was paused; one that was not is no error."""
        if subscription.paused is not None:
            subscription.paused.set()
            subscription.paused = None
            self._go_on(subscription)

    def pause_all(self, connection: Connection) -> None:
        """The same for all that a connection listens to, and will: whatever becomes of its subscriptions meanwhile.

        Whoever has paused it has to let it go on, once; there may be several.
        """
        connection.pauses += 1
        if connection.paused is None:
            connection.paused = asyncio.Event()
            for subscription in connection.subscriptions.values():
                if subscription.live is not None:
                    self._hub.set_away(subscription.live, subscription)

    def resume_all(self, connection: Connection) -> None:
        """Let a connection go on that was paused, unless somebody else keeps it so."""
        connection.pauses -= 1
        if connection.paused is not None and not connection.pauses:
            connection.paused.set()
            connection.paused = None
            for subscription in connection.subscriptions.values():
                self._go_on(subscription)

    def _go_on(self, subscription: Subscription) -> None:
        """Bring a subscription back that is away, unless something else still keeps it there."""
        connection = subscription.connection
        # One whose task still runs waits between two pages, and goes on by itself.
        waits = subscription.task is not None
        if subscription.away and not (waits or connection.behind or connection.closed):
            self.start(subscription, partial(self._come_back, subscription))

    async def _come_back(self, subscription: Subscription) -> None:
        await subscription.resumed()
        channel = self._open(subscription.channel)
        if subscription.connection.closed:
            return
        missed_nothing = channel.members and channel.position == subscription.position
        if missed_nothing or not channel.keeps_log:
            self._hub.go_live(channel, subscription)
        else:
            await self._catch_up(self._one(channel, subscription))
        if subscription.live is not None:
            self._presence.came_back(subscription)

    # -- channels -----------------------------------------------------------------------------

    def miss(self, channel: Channel) -> None:
        """Take note that live messages of a channel are missing."""
        if channel not in self._repairs:
            self._hub.stats.gaps += 1
            log.warning("gap channel=%s after=%d", channel.name, channel.position)
            self.repair(channel)

    def cannot_open(self, channel: Channel) -> None:
        """Let nobody wait for what this node cannot open: its clients subscribe again, here or elsewhere."""
        for subscription in channel.subscriptions():
            self._failed(subscription, MissingKey())

    def repair(self, channel: Channel) -> asyncio.Task[None]:
        """Read for a channel's members what they have missed; a repair that runs goes on."""
        running = self._repairs.get(channel)
        if running is None:
            running = self._tasks.spawn(self._repair(channel), f"repair {channel.name}")
            self._repairs[channel] = running
        return running

    async def _repair(self, channel: Channel) -> None:
        try:
            await self._catch_up(Members(channel, self._hub, self._confirmation))
        except MissingKey:
            self.cannot_open(channel)
        except Unavailable as error:
            log.warning("repair_refused channel=%s reason=%s", channel.name, error.reason)
            # Each of them tries by itself, and is answered by itself.
            for subscription in channel.subscriptions():
                self._hub.set_away(channel, subscription)
                self._go_on(subscription)
        finally:
            del self._repairs[channel]

    async def check_all(self) -> None:
        """Compare every logged channel with its log, after the pub/sub connection was lost."""
        await self.check(self._hub.channels.values())

    async def check_named(self, names: Iterable[str]) -> None:
        """Compare these channels with their logs: something may have gone unheard on them."""
        found = map(self._hub.channels.get, names)
        await self.check([channel for channel in found if channel is not None])

    async def check(self, channels: Iterable[Channel]) -> None:
        """Compare channels with their logs, and then let their members hear anew who is there."""
        channels = list(channels)
        logged = [channel for channel in channels if channel.keeps_log]
        log.info("repair_started channels=%d", len(logged))
        unchecked = iter(logged)
        await asyncio.gather(*(self._check_each(unchecked) for _ in logged[:_CHECKS_AT_ONCE]))
        self._presence.unheard(channels)

    async def _check_each(self, unchecked: Iterator[Channel]) -> None:
        for channel in unchecked:
            if channel.buffer is not None:
                # A page may be from before the outage, and what is buffered behind it has a gap.
                channel.buffer.forget()
            if channel.members:
                await asyncio.wait([self.repair(channel)])

    # -- the loop -----------------------------------------------------------------------------

    async def _catch_up(self, audience: Audience) -> None:
        """Read until nothing is missing, or until a message that only a later version can read."""
        while True:
            try:
                await audience.ready()
                if not audience.listens:
                    return
                taken = await self._next(audience)
                if not audience.listens or audience.settle(taken):
                    return
            finally:
                audience.done()
            if taken.complete:
                # The channel does not stand where its log ends: it has missed something too.
                await asyncio.wait([self.repair(audience.channel)])

    async def _next(self, audience: Audience) -> Taken:
        """Read a page, and send what follows in it and behind it."""
        channel, reader = audience.channel, audience.reader
        # Before the page is read, since many would keep theirs; and again behind it.
        await self._hub.released.wait()
        buffer = channel.begin_buffering()
        mark = buffer.end
        try:
            page, start, loss = await self._pages.next(audience)
            await audience.resumed()
            while self._hub.held:
                await self._hub.released.wait()
                # Access may have come into question while nothing was delivered to anybody.
                await audience.resumed()
            # What came live may be of a history that Redis has lost, as the position was.
            fell_back = reader.position < start
            taken = reader.take(page, None if fell_back else buffer.since(mark))
        finally:
            channel.end_buffering(buffer)
        if not audience.listens:
            return taken
        self._note(loss, audience)
        audience.give(taken, start, lost=loss is not Loss.NOTHING)
        if taken.unknown is not None:
            self._hub.note_unknown(channel, taken.unknown)
        return taken

    def _note(self, loss: Loss, audience: Audience) -> None:
        """Count a loss; one that a client only claims could be made up as often as it likes."""
        name, user = audience.channel.name, audience.user or None
        if loss is Loss.UNCONFIRMED:
            self._hub.stats.losses_reported += 1
            self._hub.event_log.lost(name, audience.users)
            log.warning("messages_lost channel=%s user=%s", name, user)
        elif loss is Loss.CLAIMED:
            log.debug("replay_incomplete channel=%s user=%s", name, user)
