"""The state of one client's connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.core.claims import Identity
from gateway.core.rate import TokenBucket
from gateway.node.ports import Socket

if TYPE_CHECKING:
    from gateway.node.subscription import Subscription


_REPLAYS_AT_ONCE: Final = 8
"""Pages of the log that may be on their way to one client, whatever the number of its channels."""


class Connection:
    """A client's socket, who they are, and what they listen to.

    ``outbox`` holds what is due to the socket in this turn of the event loop; the hub writes it.
    ``positions`` holds the last id sent in channels the client has left, so that coming back on the
    same connection repeats nothing. ``behind``: too much waits for the client to take it, so it is left
    out of live delivery (``slow_consumers.py``). ``replays`` is held while the client takes what waits for
    it and the next page of the log is read.
    """

    __slots__ = (
        "behind",
        "bucket",
        "closed",
        "id",
        "identity",
        "outbox",
        "positions",
        "replays",
        "socket",
        "subscriptions",
        "write",
    )

    def __init__(self, id: str, identity: Identity, socket: Socket, bucket: TokenBucket) -> None:
        self.id = id
        self.identity = identity
        self.socket = socket
        self.write = socket.write  # looked up once: it is what a fan-out does most
        self.bucket = bucket
        self.outbox = b""
        self.closed = False
        self.behind = False
        self.replays = asyncio.Semaphore(_REPLAYS_AT_ONCE)
        self.subscriptions: dict[str, Subscription] = {}
        self.positions: dict[str, int] = {}

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

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r}>"
