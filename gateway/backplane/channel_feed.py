"""What Redis tells of channels, one name of pub/sub for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gateway.backplane.pubsub import Confirmed, Names


class ChannelFeed:
    """What Redis tells of channels, of one kind. Implements ``ports.Feed``.

    Args:
        name: the name in pub/sub that a channel has for this kind, such as ``Keys.live``.
        receive: takes the channel's name and the payload of each message.
    """

    def __init__(
        self,
        subscriber: Names,
        name: Callable[[str], str],
        receive: Callable[[str, bytes], None],
    ) -> None:
        self._subscriber = subscriber
        self._name = name
        self._receive = receive

    def subscribe(self, channel: str) -> Confirmed:
        """Listen to a channel; done once Redis has confirmed, however long that takes."""
        return self._subscriber.listen(self._name(channel), partial(self._receive, channel))

    def unsubscribe(self, channel: str) -> None:
        """Stop listening to a channel."""
        self._subscriber.drop(self._name(channel))
