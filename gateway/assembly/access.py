"""The third group: who may hear a channel, from the request to the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from gateway.assembly.delivery import Delivery
from gateway.assembly.redis_side import RedisSide
from gateway.assembly.shared import CLOCK, Shared
from gateway.backplane.channel_feed import ChannelFeed
from gateway.backplane.presence_reader import PresenceReader
from gateway.backplane.revocation_reader import RevocationReader
from gateway.backplane.store import GrantReader
from gateway.backplane.telling import Telling
from gateway.core.protocol import EndReason
from gateway.credentials import make_verifier
from gateway.node.channel_tokens import ChannelTokens
from gateway.node.control import Control
from gateway.node.cut_off import CutOff
from gateway.node.inquiries import Inquiries
from gateway.node.interest import Interests
from gateway.node.passes import Passes
from gateway.node.presence_requests import PresenceRequests
from gateway.node.recheck import Recheck
from gateway.node.refusals import Refusals
from gateway.node.revocations import Revocations
from gateway.node.subscriptions import Subscriptions
from publisher.contract.control import OfStreams


class Access:
    """The subscriptions, what allows them, and the commands that end them.

    Args:
        streams: told of what clients without a WebSocket say over other nodes.
    """

    def __init__(
        self,
        shared: Shared,
        redis: RedisSide,
        delivery: Delivery,
        streams: Callable[[OfStreams], None],
    ) -> None:
        settings, hub, catchup = shared.settings, delivery.hub, delivery.catchup
        grants = GrantReader(redis.pipeline, redis.keys, shared.stats, redis.servers)
        self.interests_in_grants = Interests(
            ChannelFeed(
                redis.hearing.channels,
                redis.keys.granted,
                lambda channel: partial(self.refusals.hear, channel),
            ),
            lambda _channel: None,
            settings.unsubscribe_linger_seconds,
        )
        self.refusals = Refusals(
            hub, self.interests_in_grants, grants, shared.tasks, CLOCK, random.random
        )
        self.revocations = Revocations(
            hub,
            RevocationReader(redis.pipeline, redis.health_connection, redis.keys, redis.servers),
            shared.node_id,
            redis.places,
            CLOCK,
            random.random,
            lambda subscription: self.recheck.pass_ended(subscription, EndReason.REVOKED),
        )
        self.recheck = Recheck(
            hub,
            catchup,
            grants,
            self.refusals,
            settings.all_namespaces,
            Passes(self.revocations, time.time),
            CLOCK,
            random.random,
        )
        self.verifier = make_verifier(settings, shared.stats)
        shown = self.verifier, self.recheck, self.revocations
        self.subscriptions = Subscriptions(
            hub,
            catchup,
            self.recheck,
            self.refusals,
            delivery.pacing,
            ChannelTokens(hub, *shown, delivery.pacing, shared.tasks, CLOCK, time.time),
            settings.max_subscriptions,
            settings.max_channel_members or settings.max_connections,
        )
        present = redis.presence.present
        self.presence_requests = PresenceRequests(
            hub,
            PresenceReader(redis.pipeline, redis.keys, shared.node_id, present, redis.servers),
            settings.all_namespaces,
            delivery.pacing,
            shared.tasks,
            random.random,
        )
        checks = redis.places.checks
        self.inquiries = Inquiries(
            shared.node_id,
            hub,
            shared.event_log.watching,
            Telling(redis.pipeline, redis.keys),
            shared.tasks,
        )
        self.control = Control(
            self.recheck,
            checks.hear,
            checks.checked,
            self.revocations,
            shared.drain,
            streams,
            self.inquiries.hear,
        )
        self.cut_off = CutOff(
            hub,
            catchup,
            redis.places,
            self.revocations,
            shared.tasks,
            redis.patience_without_commands,
        )
