"""Who comes into a channel and leaves it, as its members are told.

Redis tells of that under a name of its own (``Keys.presence_changes``), which nodes of earlier versions do not listen to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from gateway.core import protocol
from gateway.node.connection import Channel as LiveChannel
from gateway.node.connection import Subscription
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.presence import PresentUsers
from publisher.contract.channels import Channel, Namespace, namespace_of


class PresenceChanges:
    """Notes who is in a channel, and tells its members of others where the namespace says so.

    Args:
        interests: in the names under which Redis tells of changes.
        missed: told of a subscription that may have missed changes.
    """

    def __init__(
        self,
        hub: Hub,
        present: PresentUsers,
        interests: Interests,
        namespaces: Mapping[str, Namespace],
        missed: Callable[[Subscription], None],
    ) -> None:
        self._hub = hub
        self._present = present
        self._interests = interests
        self._missed = missed
        self._announced = frozenset(
            name for name, each in namespaces.items() if each.presence and each.presence.announce
        )

    def enter(self, channel: Channel, user: str) -> None:
        """One more subscription of a user."""
        if channel.namespace in self._announced:
            self._interests.take(channel.name)
        self._present.enter(channel, user)

    def leave(self, channel: Channel, user: str) -> None:
        """One less."""
        if channel.namespace in self._announced:
            self._interests.release(channel.name)
        self._present.leave(channel, user)

    def came_back(self, subscription: Subscription) -> None:
        """A subscription is live again, which was told nothing for a while."""
        if subscription.channel.namespace in self._announced:
            self._missed(subscription)

    def unheard(self, channels: Iterable[LiveChannel]) -> None:
        """Something may have gone unheard on these channels."""
        for channel in channels:
            if namespace_of(channel.name) in self._announced:
                for subscription in channel.subscriptions():
                    self._missed(subscription)

    def hear(self, name: str, payload: bytes) -> None:
        """Tell the members of a channel what Redis has told (``presence.lua``)."""
        if self._hub.held:
            return  # it is not known who may hear it
        try:
            changes: dict[str, Any] = dict(orjson.loads(payload))
            told = [
                protocol.change(kind, name, _texts(changes[kind]))
                for kind in protocol.CHANGES
                if kind in changes
            ]
        except (ValueError, TypeError):
            self._hub.stats.messages_invalid += 1
            return
        self._hub.tell_all(name, *told)


def _texts(users: Any) -> list[str]:
    if not isinstance(users, list) or not all(isinstance(each, str) for each in users):
        raise ValueError("users are a list of text")
    return users
