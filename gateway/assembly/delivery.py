"""The second group, from Redis to the sockets: what is live, what is in the log, and what has arrived."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.assembly.redis_side import RedisSide
from gateway.assembly.shared import CLOCK, Shared
from gateway.backplane.channel_feed import ChannelFeed
from gateway.backplane.store import LogReader
from gateway.credentials import make_ring
from gateway.node.catchup import Catchup
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Subscription
from gateway.node.drain import Drain
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Events as HubEvents
from gateway.node.hub import Hub
from gateway.node.interest import Interests
from gateway.node.life_checks import LifeChecks
from gateway.node.opener import Opener
from gateway.node.pacing import Pacing
from gateway.node.ports import Clocks
from gateway.node.presence_changes import PresenceChanges
from gateway.node.recovery import Pages
from gateway.node.stalls import Patience
from gateway.node.tracing import Tracing
from gateway.web.outgoing import CLOSE_TIMEOUT_SECONDS
from publisher.contract.events import CONFIRMED

_FAREWELL_SECONDS: Final = CLOSE_TIMEOUT_SECONDS + 1.0
"""By then the last client has answered its close frame, or has been cut off."""


@dataclass(frozen=True, slots=True)
class DeliveryEvents:
    """What the other groups are told.

    Args:
        command: what has come on a channel that is for nodes, and not for clients.
        failed: a subscription cannot be served.
        missed_changes: a subscription may have missed who came into its channel, and who left.
    """

    command: Callable[[bytes], None]
    failed: Callable[[Subscription, Exception], None]
    missed_changes: Callable[[Subscription], None]


class Delivery:
    """The hub, and all that brings messages to it and to the clients that have missed some."""

    def __init__(self, shared: Shared, redis: RedisSide, events: DeliveryEvents) -> None:
        settings, stats, tasks = shared.settings, shared.stats, shared.tasks
        namespaces = settings.all_namespaces
        opener = Opener(make_ring(settings), stats, namespaces, time.time)
        self.confirmation = Confirmation(
            redis.positions,
            namespaces,
            CLOCK,
            settings.confirm_interval_seconds,
            stats.timings,
            shared.event_log.confirmed if CONFIRMED in shared.event_log.kinds else None,
            None if shared.spans is None else self._confirmed,
            shared.event_log.watching,
        )
        self.hub = Hub(
            redis.read_turn.call_soon,
            self.confirmation,
            stats,
            HubEvents(
                gap=lambda channel: self.catchup.miss(channel),  # noqa: PLW0108 - made below
                behind=lambda connection: self.catchup.leave_out(connection),  # noqa: PLW0108 - made below
                congested=redis.hearing.throttle,
                command=events.command,
                sealed=lambda channel: self.catchup.cannot_open(channel),  # noqa: PLW0108 - made below
            ),
            settings.compression_threshold_bytes,
            opener,
            shared.event_log,
        )
        self.tracing = (
            None
            if shared.spans is None
            else Tracing(
                shared.spans,
                self.hub.channels,
                self.hub.outboxes,
                redis.read_turn.call_soon,
                Clocks(CLOCK, time.time),
                stats.timings.redis_clock,
            )
        )
        self.interests = Interests(
            ChannelFeed(
                redis.hearing.channels,
                redis.keys.live,
                lambda channel: self._receiver(channel, opener),
            ),
            self.hub.forget,
            settings.unsubscribe_linger_seconds,
        )
        self.interests_in_presence = Interests(
            ChannelFeed(
                redis.hearing.channels,
                redis.keys.presence_changes,
                lambda channel: partial(self.presence.hear, channel),
            ),
            lambda _channel: None,
            settings.unsubscribe_linger_seconds,
        )
        present = redis.presence.present
        self.presence = PresenceChanges(
            self.hub, present, self.interests_in_presence, namespaces, events.missed_changes
        )
        interval, timeout = settings.ping_interval_seconds, settings.pong_timeout_seconds
        self.heartbeats = Heartbeats(self.hub, CLOCK, random.random, interval, timeout)
        self.life_checks = LifeChecks(
            self.hub, self.heartbeats, tasks, CLOCK, redis.places.give_back
        )
        self.drain = Drain(
            self.hub, CLOCK, settings.drain_delay_seconds, settings.drain_seconds, _FAREWELL_SECONDS
        )
        self.patience = Patience(self.hub, settings.stall_seconds, CLOCK)
        self.pacing = Pacing(CLOCK, stats)
        history = LogReader(redis.pipeline, redis.keys, redis.positions, opener, stats)
        self.catchup = Catchup(
            self.hub,
            self.interests,
            Pages(history, self.confirmation, random.random),
            self.confirmation,
            self.patience,
            self.pacing,
            tasks,
            namespaces,
            events.failed,
            settings.max_subscriptions,
            self.presence,
        )

    def _receiver(self, channel: str, opener: Opener) -> Callable[[bytes], None]:
        """What takes the live payloads of a channel: the hub itself, unless somebody looks at them before."""
        receive = opener.receiver(channel, self.hub.receive)
        return receive if self.tracing is None else self.tracing.receiver(channel, receive)

    def _confirmed(self, channel: str, after: int, upto: int) -> None:
        if self.tracing is not None:
            self.tracing.confirmed(channel, after, upto)
