"""Which channels this node listens to in Redis: while somebody needs it, and a moment longer.

The last to leave does not end the Redis subscription at once, so that a page reload costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.node.ports import Feed


class _Interest:
    __slots__ = ("confirmed", "holders", "linger")

    def __init__(self, confirmed: asyncio.Future[None]) -> None:
        self.holders = 0
        self.confirmed = confirmed
        self.linger: asyncio.TimerHandle | None = None


class Interests:
    """Counts local interest per channel.

    Args:
        ended: told the name of a channel that is no longer listened to.
        linger: seconds between the last release and the unsubscribe.
    """

    def __init__(self, feed: Feed, ended: Callable[[str], None], linger: float) -> None:
        self._feed = feed
        self._ended = ended
        self._linger = linger
        self._interests: dict[str, _Interest] = {}

    def take(self, channel: str) -> asyncio.Future[None]:
        """Hold an interest; the future is done once Redis has confirmed the subscription.

        It is shared: wait for it through ``asyncio.shield``.
        """
        interest = self._interests.get(channel)
        if interest is None:
            interest = self._interests[channel] = _Interest(self._feed.subscribe(channel))
        if interest.linger is not None:
            interest.linger.cancel()
            interest.linger = None
        interest.holders += 1
        return interest.confirmed

    def holders(self, channel: str) -> int:
        """How many hold an interest."""
        interest = self._interests.get(channel)
        return 0 if interest is None else interest.holders

    def release(self, channel: str) -> None:
        """Give an interest back."""
        interest = self._interests.get(channel)
        if interest is None:
            return  # closed meanwhile
        interest.holders -= 1
        if interest.holders == 0:
            loop = asyncio.get_running_loop()
            interest.linger = loop.call_later(self._linger, self._end, channel)

    def _end(self, channel: str) -> None:
        interest = self._interests.pop(channel)
        interest.confirmed.cancel()
        self._feed.unsubscribe(channel)
        self._ended(channel)

    def close(self) -> None:
        """End what lingers; the feed itself is about to close."""
        for interest in self._interests.values():
            if interest.linger is not None:
                interest.linger.cancel()
        self._interests.clear()
