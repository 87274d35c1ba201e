"""From a subscribe request to live delivery: without a gap, without a repeat.

The order matters. First the node hears the live channel, then the log is read while live messages are
held back, then both are spliced: whatever is published in between is in at least one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from gateway.core import frames, protocol
from gateway.core.access import keeps_log
from gateway.core.reader import goes_on_at, splice, unbroken
from gateway.node.confirmation import Confirmation
from gateway.node.connection import LiveChannel, Subscription
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.ports import Cursors, Log
from gateway.node.slow_consumers import Patience
from gateway.node.stats import Stats
from gateway.node.tasks import Retry
from publisher.contract.channels import Channel, Namespace
from publisher.contract.message import LogPage, Message

log = logging.getLogger(__name__)

PAGE: Final = 100
"""Messages read from the log at a time."""


class Joining:
    """Carries subscriptions from the request to live delivery."""

    def __init__(
        self,
        hub: Hub,
        interests: Interests,
        history: Log,
        cursors: Cursors,
        confirmation: Confirmation,
        namespaces: Mapping[str, Namespace],
        stats: Stats,
        compression_threshold: int,
        retry: Retry,
        patience: Patience,
        max_subscriptions: int,
    ) -> None:
        self._hub = hub
        self._interests = interests
        self._log = history
        self._cursors = cursors
        self._confirmation = confirmation
        self._namespaces = namespaces
        self._stats = stats
        self._threshold = compression_threshold
        self._retry = retry
        self._patience = patience
        self._max_subscriptions = max_subscriptions

    def keeps_log(self, channel: Channel) -> bool:
        """Whether the channel's messages are logged."""
        return keeps_log(channel.namespace, self._namespaces)

    async def join(self, subscription: Subscription, since: int | None) -> None:
        """Bring an allowed subscription up to date and let it go live. Waits out Redis trouble."""
        channel = self._hub.open(subscription.channel)
        confirmed = self._interests.take(channel.name)
        subscription.interested = True
        await asyncio.shield(confirmed)
        if not self.keeps_log(subscription.channel):
            self._answer(subscription, None if since is None else False)
            self._hub.go_live(channel, subscription)
            return
        async with subscription.connection.replays:
            await self._patience.drained(subscription.connection)
            self._hub.hold(channel, subscription)
            page = await self._read(subscription, since)
            self._begin(subscription, since, page)
            complete = self._take(channel, subscription, page)
        if not complete:
            await self.read_on(subscription)

    async def read_on(self, subscription: Subscription) -> None:
        """Bring a subscription up to date from where it stands, and let it go live."""
        channel = self._hub.open(subscription.channel)
        if not self.keeps_log(subscription.channel):
            self._hub.go_live(channel, subscription)
            return
        complete = False
        while not complete:
            async with subscription.connection.replays:
                await self._patience.drained(subscription.connection)
                self._hub.hold(channel, subscription)
                page = await self._read(subscription, subscription.position)
                if goes_on_at(subscription.position, page) != subscription.position:
                    self._note_loss(subscription)
                    self._tell_loss(subscription)
                    if not page.messages:
                        subscription.position = page.newest
                complete = self._take(channel, subscription, page)

    def leave(self, subscription: Subscription) -> None:
        """End a subscription, wherever it stands."""
        connection, name = subscription.connection, subscription.channel.name
        connection.subscriptions.pop(name, None)
        if subscription.interested:
            self._hub.leave(self._hub.open(subscription.channel), subscription)
            self._interests.release(name)
            connection.remember(name, subscription.position, self._max_subscriptions)
        task = subscription.task
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()

    def _begin(self, subscription: Subscription, since: int | None, page: LogPage) -> None:
        """Answer the request, and find the position that the replay starts from."""
        position = page.position if since is not None else self._known(subscription, page.position)
        missing = goes_on_at(position, page) != position
        if missing:
            self._note_loss(subscription)
        self._answer(subscription, None if since is None and not missing else not missing)
        subscription.position = position
        if missing and not page.messages:
            # Nothing is left to wait for: who has been told begins anew behind it.
            subscription.position = page.newest
            self._ask(subscription)

    def _take(self, channel: LiveChannel, subscription: Subscription, page: LogPage) -> bool:
        """Give a page to the client; ``True`` when nothing follows it but what comes live."""
        if (
            page.complete
            and not subscription.overflowed
            and unbroken(subscription.position, page.messages, subscription.held)
        ):
            self._give(
                subscription, splice(subscription.position, page.messages, subscription.held)
            )
            self._hub.follow(channel, subscription)
            return True
        self._give(subscription, splice(subscription.position, page.messages))
        self._hub.set_apart(channel, subscription)
        # A page goes out before the next is read, so that a slow client costs one page.
        self._hub.flush_to(subscription.connection)
        return False

    def _known(self, subscription: Subscription, confirmed: int) -> int:
        """What the user has, also where it is not written to Redis yet."""
        connection, name = subscription.connection, subscription.channel.name
        return max(
            confirmed,
            connection.positions.get(name, 0),
            self._cursors.confirmed(name, connection.user),
        )

    def _note_loss(self, subscription: Subscription) -> None:
        self._stats.losses_reported += 1
        log.warning(
            "messages_lost channel=%s user=%r",
            subscription.channel.name,
            subscription.connection.user,
        )

    def _tell_loss(self, subscription: Subscription) -> None:
        self._hub.send(
            subscription.connection, frames.text(protocol.messages_lost(subscription.channel.name))
        )

    async def _read(self, subscription: Subscription, since: int | None) -> LogPage:
        name, user = subscription.channel.name, subscription.connection.user
        return await self._retry(lambda: self._log.read(name, user, since, PAGE))

    def _answer(self, subscription: Subscription, recovered: bool | None) -> None:
        answer = frames.text(protocol.subscribed(subscription.channel.name, recovered))
        self._hub.send(subscription.connection, answer * subscription.answers)
        subscription.answers = 0

    def _give(self, subscription: Subscription, messages: list[Message]) -> None:
        if not messages:
            return
        fresh = [each for each in messages if not each.logged or each.id > subscription.given]
        if fresh:
            connection = subscription.connection
            encoding = connection.socket.encoding
            prefix = protocol.data_prefix(subscription.channel)
            data = frames.encode(prefix, fresh, [encoding], self._threshold)[encoding]
            self._hub.send(connection, data)
            self._stats.messages_replayed += len(fresh)
        logged = [message.id for message in messages if message.logged]
        if logged:
            subscription.position = logged[-1]
            subscription.given = max(subscription.given, logged[-1])
            self._ask(subscription)

    def _ask(self, subscription: Subscription) -> None:
        """Ask whether all has arrived that the subscription was sent so far."""
        name, upto = subscription.channel.name, subscription.position
        self._hub.send(subscription.connection, self._confirmation.replayed(name, upto))
