"""What a client may do with its subscriptions: begin them, and end them."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from gateway.core import budget, closing, protocol
from gateway.core.log_limit import FirstTimes
from gateway.core.protocol import EndReason, ErrorCode, Refused, Subscribe
from gateway.node.catchup import Catchup
from gateway.node.channel_tokens import MOST_UNANSWERED, ChannelTokens, too_many_unanswered
from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.log_readers import MissingKey
from gateway.node.pacing import Pacing
from gateway.node.recheck import Recheck
from gateway.node.refusals import Refusals
from publisher.contract.channels import Channel
from publisher.errors import Unavailable

log = logging.getLogger(__name__)


class Subscriptions:
    """The subscriptions of all connections, from the request to the end.

    Args:
        limit: how many a connection may hold.
        most_members: how many connections may be in a channel.
    """

    def __init__(
        self,
        hub: Hub,
        catchup: Catchup,
        recheck: Recheck,
        refusals: Refusals,
        pacing: Pacing,
        channel_tokens: ChannelTokens,
        limit: int,
        most_members: int,
    ) -> None:
        self._hub = hub
        self._catchup = catchup
        self._recheck = recheck
        self._refusals = refusals
        self._pacing = pacing
        self._channel_tokens = channel_tokens
        self._limit = limit
        self._most_members = most_members
        self._told: FirstTimes[str] = FirstTimes()

    # -- requests -----------------------------------------------------------------------------

    def subscribe(self, connection: Connection, request: Subscribe) -> None:
        """Begin a subscription; it is answered when it has been let in and has read the log.

        Raises:
            Refused: the connection holds all it may, or waits for too many answers.
        """
        name = request.channel.name
        existing = connection.subscriptions.get(name)
        unanswered = 0 if existing is None else existing.answers
        if unanswered >= MOST_UNANSWERED:
            raise too_many_unanswered(name)
        if request.token is not None and existing is not None and not unanswered:
            self._channel_tokens.renew(connection, request, self.subscribe)
            return
        # Without a log there is nothing to go back to, and leaving would lose what comes meanwhile.
        if (
            existing is not None
            and request.token is None
            and (request.since is None or not self._catchup.keeps_log(request.channel))
        ):
            if unanswered:
                existing.answers += 1
            else:
                self._send(connection, protocol.subscribed(name))
            return
        passed = None
        if existing is not None:
            passed = existing.passed
            request = request.after(existing.request)
            self._leave(existing)
        if len(connection.subscriptions) >= self._limit:
            detail = f"a connection may hold {self._limit}; unsubscribe from one first"
            raise protocol.too_many_subscriptions(name, detail)
        self._refusals.forget(connection, name)
        subscription = Subscription(connection, request.channel)
        subscription.answers += unanswered
        subscription.request = request
        connection.subscriptions[name] = subscription
        if passed is not None:
            self._recheck.go_by(subscription, passed)
        self._catchup.start(subscription, partial(self._join, subscription, request))

    def unsubscribe(self, connection: Connection, channel: Channel) -> None:
        """End a subscription; one that is not there is answered too."""
        if (subscription := connection.subscriptions.get(channel.name)) is not None:
            self._leave(subscription)
        self._channel_tokens.forget(connection, channel.name)
        self._refusals.forget(connection, channel.name)
        self._send(connection, protocol.unsubscribed(channel.name))

    def leave_all(self, connection: Connection) -> None:
        """End all subscriptions of a connection whose socket is gone."""
        self._refusals.forget_all(connection)
        self._channel_tokens.forget_all(connection)
        for subscription in list(connection.subscriptions.values()):
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        self._recheck.leave(subscription)
        self._catchup.leave(subscription)

    def _send(self, connection: Connection, message: bytes) -> None:
        self._hub.tell(connection, message)

    # -- the way to live delivery -------------------------------------------------------------

    async def _join(self, subscription: Subscription, request: Subscribe) -> None:
        timings = self._hub.stats.timings
        since = timings.clock()
        connection, token = subscription.connection, request.token
        shown = budget.CHANNEL_TOKEN if token is not None else 0.0
        await self._pacing.bear(connection, budget.SUBSCRIBE + shown)
        # A client that shows a token does not wait for it: what it asks for next is meant to go by it.
        await connection.refreshed()
        if token is not None:
            try:
                passed = await self._channel_tokens.check(connection, request.channel.name, token)
            except Refused as error:
                self._turn_away(subscription, error)
                return
            self._recheck.go_by(subscription, passed)
            subscription.request = replace(request, token=None)
        if not await self._recheck.admit(subscription):
            self._recheck.end(subscription, EndReason.REVOKED)
        # Only now: who may not hear a channel is not told that it is full either.
        elif self._catchup.members(subscription.channel) >= self._most_members:
            self._turn_away(subscription, self._full(request.channel))
        else:
            since = timings.phase(timings.subscribe, "access", since)
            await self._catchup.join(subscription, request.since)
            timings.phase(timings.subscribe, "log", since)

    def _turn_away(self, subscription: Subscription, error: Refused) -> None:
        """Refuse a subscription that has not begun: its token is not good, or its channel is full."""
        self._leave(subscription)
        self._hub.stats.client_errors[error.code] += subscription.answers
        self._hub.tell(subscription.connection, *[error.render()] * subscription.answers)

    def _full(self, channel: Channel) -> Refused:
        return Refused(
            ErrorCode.CHANNEL_FULL,
            "Too many subscribers",
            detail=f"{self._most_members} connections are in this channel on this node; subscribe later",
            channel=channel.name,
        )

    def fail(self, subscription: Subscription, error: Exception) -> None:
        """End a subscription that could not be brought up to date."""
        self._log_failure(subscription, error)
        if subscription.answers or isinstance(error, Unavailable | MissingKey):
            self._recheck.end(subscription, EndReason.INTERNAL_ERROR)
        else:
            # A subscription that stays silent would look alive; one that is made anew is.
            self._hub.close(subscription.connection, closing.INTERNAL_ERROR)

    def _log_failure(self, subscription: Subscription, error: Exception) -> None:
        name, user = subscription.channel.name, subscription.connection.user
        if isinstance(error, MissingKey):
            return
        if not isinstance(error, Unavailable):
            log.error("subscription_failed channel=%s user=%r", name, user, exc_info=error)
        elif self._told.admit(name):
            log.warning(
                "channel_refused_by_redis channel=%s user=%r reason=%s", name, user, error.reason
            )
