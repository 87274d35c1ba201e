"""The channel tokens that subscriptions go by: each until its end, or until it is revoked."""

from __future__ import annotations

from gateway.core.access import ChannelPass
from gateway.core.timing import Expiries
from gateway.node.connection import Subscription
from gateway.node.ports import Clock
from gateway.node.revocations import Revocations


class Passes:
    """Keeps watch over what channel tokens allow.

    Args:
        wall_clock: seconds since 1970, as in tokens; it may be set.
    """

    def __init__(self, revocations: Revocations, wall_clock: Clock) -> None:
        self._revocations = revocations
        self._wall_clock = wall_clock
        self._expiries: Expiries[Subscription] = Expiries(wall_clock())

    def give(self, subscription: Subscription, passed: ChannelPass) -> None:
        """Let a subscription go by a token, in the place of an earlier one."""
        self.take(subscription)
        subscription.passed = passed
        self._expiries.expect(subscription, passed.expires_at)
        self._revocations.watch_pass(subscription)

    def take(self, subscription: Subscription) -> None:
        """Let a subscription go by its token no more; one that has none is no error."""
        if subscription.passed is not None:
            self._expiries.forget(subscription)
            self._revocations.forget_pass(subscription)
            subscription.passed = None

    def due(self) -> list[Subscription]:
        """The subscriptions whose tokens have run out since the last look."""
        return self._expiries.due(self._wall_clock())
