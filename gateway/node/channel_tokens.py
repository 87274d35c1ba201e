"""Channel tokens: what a client shows with a ``subscribe``, signed by its backend for this user and this channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from typing import Final

from gateway.core import budget, protocol
from gateway.core.access import ChannelPass, KeyUnknown, TokenRejected
from gateway.core.protocol import BadRequest, EndReason, ErrorCode, Refused, Subscribe
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.pacing import Pacing
from gateway.node.ports import Clock, Verifier
from gateway.node.recheck import Recheck
from gateway.node.rejected_tokens import RejectedTokens
from gateway.node.revocations import Revocations
from gateway.node.tasks import Tasks
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

Again = Callable[[Connection, Subscribe], None]
"""Takes a request as if it came from the client.

Raises:
    BadRequest: it cannot be served.
"""

_DETAIL: Final = (
    "a subscription that was there goes on; get another token for this user and channel"
)
MOST_UNANSWERED: Final = 16
"""So many requests for one channel wait for their answers, with tokens and without."""


class ChannelTokens:
    """Judges channel tokens, and renews the subscriptions that go by one.

    Args:
        wall_clock: seconds since 1970, as in tokens; it may be set.
    """

    def __init__(
        self,
        hub: Hub,
        verifier: Verifier,
        recheck: Recheck,
        revocations: Revocations,
        pacing: Pacing,
        tasks: Tasks,
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        self._hub = hub
        self._verifier = verifier
        self._recheck = recheck
        self._revocations = revocations
        self._pacing = pacing
        self._tasks = tasks
        self._wall_clock = wall_clock
        self._rejected = RejectedTokens(clock)
        self._renewals: dict[Connection, dict[str, _Renewals]] = {}

    async def check(self, connection: Connection, channel: str, token: str) -> ChannelPass:
        """What a token allows, once its key is known and Redis has said that it is not revoked.

        Raises:
            Refused: it allows the connection's user nothing in this channel.
            Unavailable: Redis has answered with an error that does not pass.
        """
        try:
            passed = await self._judge(token, connection.user, channel)
        except TokenRejected as rejected:
            connection.budget.owe(budget.MISTAKE)
            self._rejected.tell(
                "channel_token_rejected", connection, str(rejected), channel=channel
            )
            raise _refused(rejected.code, channel) from None
        if not await self._revocations.admits(connection.user, passed.issued_at, passed.token_id):
            raise _refused(ErrorCode.TOKEN_REVOKED, channel)
        # Redis may have been away for longer than the token had to live.
        if passed.expires_at <= self._wall_clock():
            raise _refused(ErrorCode.TOKEN_EXPIRED, channel)
        return passed

    async def _judge(self, token: str, user: str, channel: str) -> ChannelPass:
        try:
            return self._verifier.verify_pass(token, user, channel)
        except KeyUnknown as unknown:
            await unknown.learn()
            return self._verifier.verify_pass(token, user, channel)

    # -- subscriptions that have begun --------------------------------------------------------

    def renew(self, connection: Connection, request: Subscribe, again: Again) -> None:
        """Let a subscription go by another token, if that is good; until then it goes on by what it has.

        Of several that are shown before one of them is looked at, the last one counts, and each is answered with it.

        Args:
            connection: with a subscription to the channel.
            request: with the token. If that is not good, the client is told so.
            again: called with the request when the token is in force, without it; or with it, when the subscription has
                ended meanwhile.

        Raises:
            Refused: too many wait.
        """
        name = request.channel.name
        of_connection = self._renewals.setdefault(connection, {})
        renewals = of_connection.get(name)
        if renewals is None:
            renewals = of_connection[name] = _Renewals()
            work = self._renew_all(connection, name, renewals, again)
            renewals.task = self._tasks.spawn(work, f"renew {name}")
        elif renewals.unanswered >= MOST_UNANSWERED:
            raise too_many_unanswered(name)
        renewals.show(request)

    def forget(self, connection: Connection, channel: str) -> None:
        """Look at no token any more that was shown for an open subscription: its client has left the channel."""
        renewals = self._renewals.get(connection, {}).get(channel)
        if renewals is not None and renewals.task is not None:
            renewals.task.cancel()
            self._done(connection, channel)

    def forget_all(self, connection: Connection) -> None:
        """The same in all channels: its socket is gone."""
        for channel in list(self._renewals.get(connection, ())):
            self.forget(connection, channel)

    def _done(self, connection: Connection, channel: str) -> None:
        of_connection = self._renewals[connection]
        del of_connection[channel]
        if not of_connection:
            del self._renewals[connection]

    async def _renew_all(
        self, connection: Connection, channel: str, renewals: _Renewals, again: Again
    ) -> None:
        """One after the other: the last one that was shown is the last one that comes into force."""
        try:
            while renewals.waiting is not None:
                # Meanwhile a later one takes its place: what waits to be paid for is one token for each subscription.
                await self._pacing.bear(connection, budget.SUBSCRIBE + budget.CHANNEL_TOKEN)
                request = renewals.take()
                await self._renew(connection, request, renewals.judged, again)
                renewals.judged = 0
        finally:
            if self._renewals.get(connection, {}).get(channel) is renewals:
                self._done(connection, channel)

    async def _renew(
        self, connection: Connection, request: Subscribe, answers: int, again: Again
    ) -> None:
        """Carry out one request; it is answered as often as it stands for several."""
        name, token = request.channel.name, request.token
        assert token is not None
        try:
            passed = await self.check(connection, name, token)
        except BadRequest as error:
            self._refuse(connection, error, answers)
            return
        except Unavailable as error:
            log.warning("channel_token_unchecked channel=%s reason=%s", name, error.reason)
            self._refuse(connection, protocol.refusal(name, EndReason.INTERNAL_ERROR), answers)
            return
        if (subscription := connection.subscriptions.get(name)) is not None:
            self._recheck.go_by(subscription, passed)
            self._recheck.reconsider(subscription)
            request = replace(request, token=None)
        for each in (request, *repeat(Subscribe(request.channel), answers - 1)):
            try:
                again(connection, each)
            except BadRequest as error:
                self._refuse(connection, error)

    def _refuse(self, connection: Connection, error: BadRequest, answers: int = 1) -> None:
        self._hub.stats.client_errors[error.code] += answers
        self._hub.tell(connection, *[error.render()] * answers)


class _Renewals:
    """The tokens that are shown for one subscription: ``task`` judges one, and the last one that has come since waits.

    ``judged`` and ``behind`` are the requests that the two answer.
    """

    def __init__(self) -> None:
        self.waiting: Subscribe | None = None
        self.judged = 0
        self.behind = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def unanswered(self) -> int:
        """Requests without an answer."""
        return self.judged + self.behind

    def show(self, request: Subscribe) -> None:
        """Let a request wait, in the place of the one before it."""
        self.waiting = request.after(self.waiting)
        self.behind += 1

    def take(self) -> Subscribe:
        """The one that waits, which is judged now."""
        request = self.waiting
        assert request is not None
        self.waiting = None
        self.judged, self.behind = self.behind, 0
        return request


def too_many_unanswered(channel: str) -> Refused:
    """What a client is told that does not wait for its answers."""
    detail = f"{MOST_UNANSWERED} requests for this channel wait for their answers"
    return protocol.too_many_subscriptions(channel, detail)


def _refused(code: ErrorCode, channel: str) -> Refused:
    return Refused(code, "Channel token rejected", detail=_DETAIL, channel=channel)
