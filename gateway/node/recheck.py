"""Judging subscriptions again: a grant was revoked, or a token was replaced."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.core import frames, protocol
from gateway.core.chunks import chunks
from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.joining import Joining
from gateway.node.tasks import Tasks

_AT_ONCE: Final = 500


class Judging:
    """Ends the subscriptions that are not allowed any more; the rules and grants are ``Joining``'s."""

    def __init__(self, hub: Hub, joining: Joining, tasks: Tasks) -> None:
        self._hub = hub
        self._joining = joining
        self._tasks = tasks

    async def settled(self, subscription: Subscription) -> bool:
        """Whether a new subscription is allowed, judged anew while there is reason to doubt it."""
        while True:
            subscription.doubtful = False
            allowed = await self._joining.allowed(subscription)
            # A grant that was revoked meanwhile may have been seen just before.
            if not subscription.doubtful:
                return allowed

    def revoke(self, channel: str, user: str | None) -> None:
        """Judge the subscriptions to ``channel`` of ``user``, or of everybody."""
        for connection in self._hub.connections.values():
            subscription = connection.subscriptions.get(channel)
            if subscription is not None and user in (None, connection.user):
                self._doubt(subscription)

    def after_refresh(self, connection: Connection) -> None:
        """Judge all of a connection's subscriptions: its new token may name fewer channels."""
        for subscription in connection.subscriptions.values():
            self._doubt(subscription)

    async def all(self) -> None:
        """Judge all that only a grant lets in: a revocation may have gone unheard."""
        granted = [
            subscription
            for connection in self._hub.connections.values()
            for subscription in connection.subscriptions.values()
            if self._joining.needs_grant(subscription)
        ]
        for some in chunks(granted, _AT_ONCE):
            for each in some:
                each.doubtful = True
            await asyncio.gather(*(self._again(each) for each in some if each.interested))

    def _doubt(self, subscription: Subscription) -> None:
        subscription.doubtful = True
        if subscription.interested:
            self._tasks.spawn(self._again(subscription), f"judge {subscription.channel.name}")

    async def _again(self, subscription: Subscription) -> None:
        if await self._joining.allowed(subscription):
            return
        connection, name = subscription.connection, subscription.channel.name
        if connection.subscriptions.get(name) is subscription:
            self._joining.leave(subscription)
            self._hub.send(connection, frames.text(protocol.unsubscribed(name, "revoked")))
