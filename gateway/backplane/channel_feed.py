"""What Redis tells of channels, one name of pub/sub for each."""

from __future__ import annotations

from collections.abc import Callable

from gateway.backplane.pubsub import Confirmed, Names


class ChannelFeed:
    """What Redis tells of channels, of one kind. Implements ``ports.Feed``.

    Args:
        name: the name in pub/sub that a channel has for this kind, such as ``Keys.live``.
        receiver: of a channel, what takes the payload of each message.
    """

    def __init__(
        self,
        subscriber: Names,
        name: Callable[[str], str],
        receiver: Callable[[str], Callable[[bytes], None]],
    ) -> None:
        self._subscriber = subscriber
        self._name = name
        self._receiver = receiver

    def subscribe(self, channel: str) -> Confirmed:
        """Listen to a channel; done once Redis has confirmed, however long that takes."""
        return self._subscriber.listen(self._name(channel), self._receiver(channel))

    def unsubscribe(self, channel: str) -> None:
        """Stop listening to a channel."""
        self._subscriber.drop(self._name(channel))
