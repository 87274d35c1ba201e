"""Who may hear a channel, and until when: lets subscriptions in, and ends each when its access does.

A rule or the token lets a subscription in for as long as the connection has its token. A channel token or a grant lets
it in for as long as it lasts. Whatever may take access away (the end of one of these, a revocation, another
token, a Redis that was away) puts the subscription into one queue, and one loop asks again. Nobody is sent
away without asking, because another grant may still let them in.

A subscription that has to be asked about hears nothing until Redis has answered, however long that takes. Then
it ends, or goes on from its position. While the node hears no revocations, because its pub/sub connection
is lost, this is so for all subscriptions that only a grant lets in.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

from gateway.core import budget, protocol
from gateway.core.access import ChannelPass, Decision, decide
from gateway.core.chunks import chunks, groups
from gateway.core.protocol import EndReason
from gateway.core.timing import Backoff, Expiries
from gateway.node.catchup import Catchup
from gateway.node.connection import Connection, Subscription
from gateway.node.hub import Hub
from gateway.node.passes import Passes
from gateway.node.ports import Clock, Grants
from gateway.node.refusals import Refusals
from gateway.node.tasks import Retry
from publisher.contract.channels import Namespace
from publisher.contract.grants import EVERYBODY, Grantee
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500


class Recheck:
    """Keeps watch over the access of all subscriptions of a node.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        hub: Hub,
        catchup: Catchup,
        grants: Grants,
        refusals: Refusals,
        namespaces: Mapping[str, Namespace],
        passes: Passes,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._catchup = catchup
        self._grants = grants
        self._refusals = refusals
        self._namespaces = namespaces
        self._passes = passes
        self._clock = clock
        self._retry = Retry(jitter)
        self._backoff = Backoff(jitter)
        # Whom only a grant lets in, also while that is still being asked: a revocation must find them.
        self._granted: dict[str, dict[Subscription, None]] = {}
        self._expiries: Expiries[Subscription] = Expiries(clock())
        # Whom another token concerns, and whose connection owes too much to go by it yet. They hear nothing.
        self._unpaid: Expiries[Subscription] = Expiries(clock())
        # Who is being let in, and whether the answer about them is out of date before it has come.
        self._admitting: dict[Subscription, bool] = {}
        # What is to be asked about, and the reason that is told if access has ended.
        self._queue: dict[Subscription, EndReason] = {}
        self._all_are_due = False
        self._data_are_due = False
        self._something_is_due = asyncio.Event()
        self._hears_revocations = asyncio.Event()
        self._unknown: dict[str, list[str]] = {}

    # -- letting in ---------------------------------------------------------------------------

    async def admit(self, subscription: Subscription) -> bool:
        """Whether a new subscription is allowed; waits while Redis does not answer.

        Raises:
            Unavailable: Redis has answered with an error that trying again does not mend.
        """
        decision = self._decide(subscription)
        if decision is not Decision.IF_GRANTED:
            return decision is Decision.ALLOWED
        self._admitting[subscription] = True
        try:
            # A grant that was revoked meanwhile may have been seen just before.
            while self._admitting[subscription]:
                self._admitting[subscription] = False
                ends_at = await self._retry(lambda: self._ask(subscription))
        finally:
            del self._admitting[subscription]
        self._expect(subscription, ends_at)
        return ends_at is not None

    async def _ask(self, subscription: Subscription) -> float | None:
        """When the subscription's access ends, on the node's clock; ``None`` when it has none.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        decision = self._decide(subscription)
        if decision is not Decision.IF_GRANTED:
            self.forget(subscription)
            return math.inf if decision is Decision.ALLOWED else None
        name, user = subscription.channel.name, subscription.connection.user
        self._granted.setdefault(name, {})[subscription] = None
        # An answer that is older than the last revocation that went unheard would prove nothing.
        await self._hears_revocations.wait()
        asked_at = self._clock()
        seconds = await self._grants.remaining(name, user)
        return asked_at + seconds if seconds > 0 else None

    def _decide(self, subscription: Subscription) -> Decision:
        found = decide(subscription.connection.identity, subscription.channel, self._namespaces)
        # As the connection's token does, a channel token replaces a grant and nothing else.
        goes_by_pass = found is Decision.IF_GRANTED and subscription.passed is not None
        return Decision.ALLOWED if goes_by_pass else found

    def _expect(self, subscription: Subscription, ends_at: float | None) -> None:
        if ends_at is None:
            self.forget(subscription)
        elif math.isinf(ends_at):
            self._expiries.forget(subscription)
        else:
            self._expiries.expect(subscription, ends_at)

    def forget(self, subscription: Subscription) -> None:
        """Keep no watch over a subscription any more; an unknown one is no error."""
        self._expiries.forget(subscription)
        self._unpaid.forget(subscription)
        self._queue.pop(subscription, None)
        name = subscription.channel.name
        if (granted := self._granted.get(name)) is not None:
            granted.pop(subscription, None)
            if not granted:
                del self._granted[name]

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription that ends, and the channel token that it goes by."""
        self.forget(subscription)
        self._passes.take(subscription)

    # -- what may take access away ------------------------------------------------------------

    def tick(self) -> None:
        """Ask about the grants that have run out, and what is paid for by now; to be called several times a second."""
        now = self._clock()
        for subscription in self._expiries.due(now):
            self._enqueue(subscription, EndReason.EXPIRED)
        for subscription in self._unpaid.due(now):
            self._go_by_token(subscription)
        for subscription in self._passes.due():
            self.pass_ended(subscription, EndReason.EXPIRED)

    def revoked(self, channel: str, user: Grantee) -> None:
        """Ask about the grants of ``user``, or of everybody, in ``channel``: one was taken back or shortened."""
        for subscription in self._granted.get(channel, ()):
            if user in (EVERYBODY, subscription.connection.user):
                self._enqueue(subscription, EndReason.REVOKED)

    def unheard(self, channels: Iterable[str]) -> None:
        """Ask about all grants in these channels: a revocation may have gone unheard."""
        for channel in channels:
            self.revoked(channel, EVERYBODY)

    def refreshed(self, connection: Connection) -> None:
        """Reconsider all subscriptions of a connection that has shown another token."""
        for subscription in list(connection.subscriptions.values()):
            self.reconsider(subscription)

    def doubt(self, connection: Connection) -> None:
        """Let a connection hear nothing: its token has ended, and it is not known whether another one is good."""
        self._catchup.pause_all(connection)

    def trust(self, connection: Connection) -> None:
        """Let it go on."""
        self._catchup.resume_all(connection)

    def go_by(self, subscription: Subscription, passed: ChannelPass) -> None:
        """Let a subscription go by a channel token; one that has begun is to be reconsidered."""
        self._passes.give(subscription, passed)

    def pass_ended(self, subscription: Subscription, reason: EndReason) -> None:
        """Ask whether a grant lets a subscription stay whose channel token has run out, or is revoked."""
        self._passes.take(subscription)
        if self._decide(subscription) is Decision.IF_GRANTED:
            subscription.connection.budget.owe(budget.SUBSCRIBE)
            self._granted.setdefault(subscription.channel.name, {})[subscription] = None
            self._enqueue(subscription, reason)

    def reconsider(self, subscription: Subscription) -> None:
        """Go by another token, of the connection or for the channel: ask about what only the old one allowed; what only a
        grant allowed may need it no more. What the user may not hear by the new one ends at once.
        """
        match self._decide(subscription):
            case Decision.IF_GRANTED:
                if not self._watched(subscription):
                    self._granted.setdefault(subscription.channel.name, {})[subscription] = None
                    self._go_by_token(subscription)
            case _ if subscription in self._admitting:
                self._admitting[subscription] = True
            case Decision.ALLOWED:
                if subscription not in self._unpaid:
                    self._allow(subscription)
            case Decision.DENIED:
                self.end(subscription, EndReason.REVOKED)

    def _go_by_token(self, subscription: Subscription) -> None:
        """Go by the token that was shown last, as soon as the connection owes nothing for those before it.

        Two tokens in turn could ask Redis about all subscriptions each time.
        """
        if not self._stop_delivery(subscription):
            return
        now, spender = self._clock(), subscription.connection.budget
        if seconds := spender.settle(now):
            self._unpaid.expect(subscription, now + seconds)
            return
        spender.owe(budget.SUBSCRIBE)
        if self._decide(subscription) is Decision.ALLOWED:
            self._allow(subscription)
        else:
            self._enqueue(subscription, EndReason.REVOKED)

    def _allow(self, subscription: Subscription) -> None:
        self.forget(subscription)
        self._catchup.resume(subscription)

    def listens(self, listening: bool) -> None:
        """The pub/sub connection, which brings revocations, is there again, or is lost."""
        if listening:
            self._hears_revocations.set()
        else:
            self._hears_revocations.clear()
        self._all_are_due = True
        for subscription in chain.from_iterable(self._granted.values()):
            self._stop_delivery(subscription)
        self.data_may_be_lost()

    def ask_again(self) -> None:
        """Ask about all grants once more: a server that has some of them was away."""
        self._all_are_due = True
        self.data_may_be_lost()

    def data_may_be_lost(self) -> None:
        """Ask whether Redis has lost its data, and about all grants if so."""
        self._data_are_due = True
        self._something_is_due.set()

    def _enqueue(self, subscription: Subscription, reason: EndReason) -> None:
        if self._stop_delivery(subscription) and subscription not in self._unpaid:
            # The first reason is told, since the grant it concerns was the first to go.
            self._queue.setdefault(subscription, reason)
            self._something_is_due.set()

    def _stop_delivery(self, subscription: Subscription) -> bool:
        """Let a subscription hear nothing; ``False`` for one that is being let in, and asked about anyway."""
        if subscription in self._admitting:
            self._admitting[subscription] = True
            return False
        self._catchup.pause(subscription)
        return True

    # -- asking again -------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask about what is due until cancelled."""
        while True:
            await self._something_is_due.wait()
            await self._hears_revocations.wait()
            self._something_is_due.clear()
            answered = await self._enqueue_all() if self._data_are_due else True
            answered = await self._ask_all() and answered
            self._log_unknown()
            if answered:
                self._backoff.reset()
            else:
                await asyncio.sleep(self._backoff.next())
                self._something_is_due.set()

    async def _enqueue_all(self) -> bool:
        """Queue all grants after a break, or when Redis has lost its data; ``False`` when it does not answer."""
        self._data_are_due = False
        try:
            lost = await self._grants.lost()
        except Unavailable as error:
            if error.retryable:
                self._data_are_due = True
                return False
            lost = False
        if lost:
            self._queue.clear()  # whatever they were due for, their grants are lost
        if lost or self._all_are_due:
            self._all_are_due = False
            reason = EndReason.GRANT_LOST if lost else EndReason.REVOKED
            for subscription in chain.from_iterable(self._granted.values()):
                self._enqueue(subscription, reason)
        return True

    async def _ask_all(self) -> bool:
        """Ask about all that is due by now; ``False`` when some of it has to be asked again."""
        due, self._queue = self._queue, {}
        by_server = groups(due.items(), lambda each: self._grants.server_of(each[0].channel.name))
        return all(await asyncio.gather(*map(self._ask_in_turn, by_server.values())))

    async def _ask_in_turn(self, due: list[tuple[Subscription, EndReason]]) -> bool:
        """Ask about what one server has to answer; ``False`` when some of it has to be asked again."""
        rest = chunks(due, _AT_ONCE)
        for some in rest:
            errors = await asyncio.gather(*(self._again(*each) for each in some))
            failed = [each for each, error in zip(some, errors, strict=True) if error]
            if failed or self._all_are_due:
                # In an outage the others would fail too. Next time they come before those that have failed.
                for subscription, reason in chain(chain.from_iterable(rest), failed):
                    if self._watched(subscription):
                        self._queue[subscription] = reason
                return not failed
        return True

    async def _again(self, subscription: Subscription, reason: EndReason) -> Unavailable | None:
        """Ask once about one subscription; returns an error that may pass."""
        if not self._is_asked_about(subscription):
            return None
        try:
            ends_at = await self._ask(subscription)
        except Unavailable as error:
            if error.retryable:
                return error
            self._end_unknown(subscription, error.reason)
        except Exception:
            log.exception("recheck_failed channel=%s", subscription.channel.name)
            self._end_unknown(subscription, "a defect in the gateway")
        else:
            self._settle(subscription, ends_at, reason)
        return None

    def _settle(self, subscription: Subscription, ends_at: float | None, reason: EndReason) -> None:
        """Do what an answer says, unless it has become meaningless on its way."""
        if not self._is_asked_about(subscription):
            return  # it has left, or its connection has shown another token since
        if self._all_are_due or subscription in self._queue:
            self._queue[subscription] = reason  # what made it due once more came after the question
        elif ends_at is None:
            self.end(subscription, reason)
        else:
            self._expect(subscription, ends_at)
            self._catchup.resume(subscription)

    def _end_unknown(self, subscription: Subscription, why: str) -> None:
        """End a subscription of which nobody knows whether it may still hear its channel."""
        if self._watched(subscription):
            self._unknown.setdefault(why, []).append(subscription.channel.name)
            self.end(subscription, EndReason.INTERNAL_ERROR)

    def _log_unknown(self) -> None:
        for why, names in self._unknown.items():
            # One line however many there are: in an outage it may be thousands.
            log.warning(
                "access_unknown subscriptions=%d first=%s reason=%s", len(names), names[0], why
            )
        self._unknown.clear()

    def _watched(self, subscription: Subscription) -> bool:
        return subscription in self._granted.get(subscription.channel.name, ())

    def _is_asked_about(self, subscription: Subscription) -> bool:
        """Whether an answer counts: what is unpaid is asked about later, by the token that counts then."""
        return self._watched(subscription) and subscription not in self._unpaid

    def end(self, subscription: Subscription, reason: EndReason) -> None:
        """End a subscription that its client has not ended, and say why; refuse one that has not begun.

        If a grant can open the channel again, the client is told of it.
        """
        self.leave(subscription)
        self._catchup.leave(subscription)
        connection, name = subscription.connection, subscription.channel.name
        if answers := subscription.answers:
            refused = protocol.refusal(name, reason)
            self._hub.stats.client_errors[refused.code] += answers
            self._hub.tell(connection, *[refused.render()] * answers)
        else:
            self._hub.tell(connection, protocol.unsubscribed(name, reason))
        is_refused = reason is not EndReason.INTERNAL_ERROR
        if is_refused and self._decide(subscription) is Decision.IF_GRANTED:
            self._refusals.remember(connection, name)
