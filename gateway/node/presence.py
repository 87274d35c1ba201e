"""Who is in a channel on this node, however many connections they have there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gateway.node.stats import Stats
from publisher.contract.channels import Channel, Namespace


class PresentUsers:
    """Counts the subscriptions of each user, in the channels of namespaces with ``presence``.

    Args:
        changed: told that a user has come into a channel of this name, or has left it.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace],
        changed: Callable[[str, str], None],
        stats: Stats,
    ) -> None:
        self._noted = frozenset(name for name, each in namespaces.items() if each.presence)
        self._changed = changed
        self._stats = stats
        self._channels: dict[str, dict[str, int]] = {}

    @property
    def noted(self) -> bool:
        """Whether there is any such namespace."""
        return bool(self._noted)

    def enter(self, channel: Channel, user: str) -> None:
        """One more subscription of a user."""
        if channel.namespace not in self._noted:
            return
        users = self._channels.setdefault(channel.name, {})
        users[user] = users.get(user, 0) + 1
        if users[user] == 1:
            self._stats.presence_users += 1
            self._changed(channel.name, user)

    def leave(self, channel: Channel, user: str) -> None:
        """One less."""
        if channel.namespace not in self._noted:
            return
        users = self._channels[channel.name]
        users[user] -= 1
        if not users[user]:
            self._stats.presence_users -= 1
            del users[user]
            if not users:
                del self._channels[channel.name]
            self._changed(channel.name, user)

    def channels(self) -> Iterable[str]:
        """The channels that somebody is in."""
        return self._channels.keys()

    def users(self, channel: str) -> Mapping[str, int]:
        """Who is in a channel, and with how many subscriptions."""
        return self._channels.get(channel, {})
