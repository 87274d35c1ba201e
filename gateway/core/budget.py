"""What a client may cost: the prices, and the budget of a connection that they are paid from.

A price of 1 is that of an ordinary message. What pays which price: ``node/requests.py`` for what a client says,
``web/incoming_frames.py`` for its bytes and frames, ``node/pacing.py`` for what is done for it in Redis. The reasons
for the prices are in ``docs/protocol.md``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.core.rate_limit import TokenBucket

MESSAGE: Final = 1.0
"""What the frames and bytes of a message have cost already counts towards it."""

MISTAKE: Final = 20.0
PING: Final = 1.0
PONG: Final = 0.1
"""The server asks for pongs itself, up to once a second and channel."""

REFRESH: Final = 10.0

FRAME: Final = 0.1
PART_OF_FRAME: Final = 0.02
"""So many bytes of a frame as were read at once, without its end."""

SHORT_READ: Final = 512
"""Fewer bytes, if they are all that was read, cost as much as a frame: they take as long, and networks cut no frames so small."""

BYTE: Final = 1 / 65_536
"""As received, and once more as inflated."""

SUBSCRIBE: Final = 4.0
"""On top of the message, for what is asked of Redis; the first ones of a connection cost neither."""

CHANNEL_TOKEN: Final = 4.0
"""On top of that, for the signature of a token that comes with it, and for what Redis is asked about it."""

PRESENCE: Final = 4.0
"""On top of the message, for the answer who is in a channel, and its bytes as those that are repeated."""

REPEATED_MESSAGE: Final = 0.05
REPEATED_BYTE: Final = 1 / 4_096
"""Of what a connection was sent before and asks for again. What it has not been sent yet is free."""


def arrived(octets: int, *, ends_frame: bool, read: int = 0) -> float:
    """The price of bytes that a client has sent, in no more than one frame.

    Args:
        octets: how many.
        ends_frame: whether the frame ends with them.
        read: how many bytes were read at once, with these at the end; of no matter where the frame ends.
    """
    is_part = not ends_frame and read >= SHORT_READ
    return (PART_OF_FRAME if is_part else FRAME) + octets * BYTE


def presence(octets: int) -> float:
    """The price of an answer who is in a channel, of so many bytes."""
    return PRESENCE + octets * REPEATED_BYTE


def message(paid: float) -> float:
    """The price of a message for whose frames and bytes so much was ``paid`` already."""
    return max(0.0, MESSAGE - paid)


_PONG_OCTETS: Final = 43
"""The longest that answers a ping of the node's, as it travels."""


def pongs(subscriptions: int, interval: float) -> float:
    """What all pongs that the node asks for cost in a second.

    Args:
        subscriptions: that a connection may hold; each is asked about.
        interval: seconds between two questions about the same one.
    """
    asked = (subscriptions + 1) / interval  # one more, as a sign of life
    return asked * (PONG + arrived(_PONG_OCTETS, ends_frame=True))


class Allowance(NamedTuple):
    """A budget's size: points that come back in a second, and points at once."""

    rate: float
    burst: float


class Budget(TokenBucket):
    """What a connection may still cost.

    What a client sends is taken at once, or ends the connection. What the node does for it can wait: it is owed, and
    paid from the upper half of the bucket, so that a client is never closed for what it was made to wait for.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket.
        subscribes: how many are free.
        now: seconds of a monotonic clock.

    ``shared``: that of all connections of the user on this node, which is charged as well, where they have several
    (``node/user_budgets.py``).
    """

    __slots__ = ("_free_subscribes", "_owed", "shared")

    def __init__(self, rate: float, burst: float, subscribes: int, now: float) -> None:
        super().__init__(rate, burst, now)
        self._free_subscribes = subscribes
        self._owed = 0.0
        self.shared: Budget | None = None

    def owe(self, cost: float) -> None:
        """Note the cost of something that is done for the client now."""
        self._owed += cost
        if self.shared is not None:
            self.shared.owe(cost)

    def settle(self, now: float) -> float:
        """Pay what is owed, as far as can be; returns in how many seconds the rest can be paid if nothing else is."""
        own = self._settle(now)
        return own if self.shared is None else max(own, self.shared.settle(now))

    def _settle(self, now: float) -> float:
        if not self._owed:
            return 0.0
        # All that has come back since then pays, also what the bucket has no room for.
        tokens = self._tokens + (now - self._filled_at) * self._rate
        self._filled_at = now
        floor = self._burst / 2
        paid = min(self._owed, max(0.0, tokens - floor))
        self._owed -= paid
        self._tokens = min(self._burst, tokens - paid)
        return (self._owed + floor - self._tokens) / self._rate if self._owed else 0.0

    def spent(self, now: float) -> float:
        """What it lacks of being full, with what is owed."""
        self._settle(now)
        tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        return self._burst - tokens + self._owed

    def is_free_subscribe(self) -> bool:
        """Whether a subscribe is one of those that are free. Then its message is given back, and there is one less."""
        if not self._free_subscribes:
            return False
        self._free_subscribes -= 1
        self.give_back(MESSAGE)
        if self.shared is not None:
            self.shared.give_back(MESSAGE)
        return True

    def give_back(self, cost: float) -> None:
        """Take back a price that was paid for nothing."""
        self._tokens = min(self._burst, self._tokens + cost)
