"""What ends connections and tokens: commands of backends, heard live or found in Redis.

A connection ends when its user is disconnected, or its token revoked. A handshake, and a token that is shown on an open
connection, ask Redis; a command that is heard while Redis answers may have come too late for the answer, so what was heard
since the question counts too.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from gateway.core import closing
from gateway.core.chunks import chunks
from gateway.core.closing import Closing
from gateway.core.log_limit import FirstTimes
from gateway.core.timing import Backoff
from gateway.node.by_name import ByName
from gateway.node.connection import Connection, Subscription
from gateway.node.heard_lately import Ending, HeardLately
from gateway.node.hub import Hub
from gateway.node.ports import Claim, Clock, HeldPlaces, RevokedTokens
from gateway.node.tasks import Retry, Sleep
from publisher.contract.control import Disconnect, PlaceReplaced, TokenRevoked, TokensRevoked
from publisher.contract.revocations import digest_of
from publisher.errors import Rejected, Unavailable

log = logging.getLogger(__name__)

_KINDS: Final[dict[type[Ending], str]] = {
    Disconnect: "disconnect",
    TokenRevoked: "token",
    TokensRevoked: "tokens_before",
    PlaceReplaced: "replaced",
}

_RECHECK_SECONDS: Final = 300.0
"""So often all are asked about without a reason: the bus of a cluster may lose a command."""
_SURELY_BEFORE_SECONDS: Final = 10.0
"""A command is heard within this time, also where so much is delivered that Redis is read from slowly: who has been here for
longer was here when it was given."""


class Revocations:
    """Ends connections, and says whether one may begin.

    Args:
        node: this node's name, which a command gives with the id of a connection.
        places: renewing those of a user tells what has ended their connections.
        jitter: a number from 0 to 1.
        end_pass: ends what a channel token has allowed.
    """

    def __init__(
        self,
        hub: Hub,
        tokens: RevokedTokens,
        node: str,
        places: HeldPlaces,
        clock: Clock,
        jitter: Callable[[], float],
        end_pass: Callable[[Subscription], None] = lambda _subscription: None,
    ) -> None:
        self._hub = hub
        self._tokens = tokens
        self._end_pass = end_pass
        self._node = node
        self._places = places
        self._clock = clock
        self._lately = HeardLately(clock)
        self._retry = Retry(jitter)
        self._jitter = jitter
        self._sleep = Sleep()
        self._told: FirstTimes[str] = FirstTimes()
        # How often all were to be asked about, and who is still: users, and digests of tokens.
        self._rechecks = 0
        self._due_users: set[str] = set()
        self._due_tokens: set[str] = set()
        self._rechecked = asyncio.Event()
        self._rechecked.set()
        self._of_user: ByName[Connection] = ByName()
        self._of_token: ByName[Connection | Subscription] = ByName()

    # -- connections --------------------------------------------------------------------------

    def watch(self, connection: Connection) -> None:
        """End a connection when its user is disconnected or its token revoked."""
        self._of_user.add(connection.user, connection)
        if (token_id := connection.identity.token_id) is not None:
            self._of_token.add(digest_of(token_id), connection)

    def forget(self, connection: Connection) -> None:
        """Keep no watch over a connection any more, nor over the token that it has now; an unknown one is no error."""
        self._of_user.remove(connection.user, connection)
        if (token_id := connection.identity.token_id) is not None:
            self._of_token.remove(digest_of(token_id), connection)

    def watch_pass(self, subscription: Subscription) -> None:
        """End what a channel token allows when it is revoked."""
        if subscription.passed is not None and subscription.passed.token_id is not None:
            self._of_token.add(digest_of(subscription.passed.token_id), subscription)

    def forget_pass(self, subscription: Subscription) -> None:
        """Keep no watch over the channel token that a subscription goes by; an unknown one is no error."""
        if subscription.passed is not None and subscription.passed.token_id is not None:
            self._of_token.remove(digest_of(subscription.passed.token_id), subscription)

    # -- commands -----------------------------------------------------------------------------

    def hear(self, command: Ending) -> None:
        """Carry out a command that has just been given."""
        self._lately.add(command)
        if isinstance(command, Disconnect) and not command.again:
            # Where the clock of Redis was set back since they came, ``at`` is before all of them.
            self._carry_out(command, begun_before=self._clock() - _SURELY_BEFORE_SECONDS)
        else:
            self.carry_out(command)

    def carry_out(self, command: Ending) -> None:
        """End the connections that a command is about, whenever it was given."""
        self._carry_out(command, begun_before=-math.inf)

    def _carry_out(self, command: Ending, begun_before: float) -> None:
        """Who has ``begun_before`` came before the command, whatever the clock of Redis says."""
        if isinstance(command, TokenRevoked):
            for holder in self._of_token.of(command.digest):
                if isinstance(holder, Subscription):
                    self._end_pass(holder)
                else:
                    self._end(holder, command)
            return
        for each in self._of_user.of(command.user):
            entered_at = 0 if each.begun < begun_before else each.entered_at
            if self._ends(command, each.id, each.identity.issued_at, entered_at):
                self._end(each, command)
            elif isinstance(command, TokensRevoked):
                self._end_passes(each, command.before)

    def _end_passes(self, connection: Connection, before: float) -> None:
        if connection.closed:
            return
        for subscription in list(connection.subscriptions.values()):
            passed = subscription.passed
            if passed is not None and _is_older(passed.issued_at, before):
                self._end_pass(subscription)

    def _ends(
        self, command: Ending, connection: str, issued_at: float | None, entered_at: int
    ) -> bool:
        """Whether a command about a connection's user, or its token, ends it."""
        match command:
            case Disconnect(_, at):
                # Both moments are of the server that has the user's keys. Before another one takes over more time
                # passes than their clocks differ by.
                meant = command.connection in (None, self._member(connection))
                return meant and entered_at <= at
            case PlaceReplaced(_, member):
                return member == self._member(connection)
            case _:
                return _revokes(command, issued_at)

    def _member(self, connection: str) -> str:
        return f"{self._node}/{connection}"

    def _end(self, connection: Connection, command: Ending) -> None:
        if connection.closed:
            return
        if isinstance(command, PlaceReplaced):
            self._places.give_back(connection.user, connection.id)
        kind = _KINDS[type(command)]
        actor = None if isinstance(command, PlaceReplaced) else command.actor
        self._hub.stats.revocations[kind] += 1
        log.info(
            "connection_revoked connection=%s user=%r kind=%s actor=%r",
            connection.id,
            connection.user,
            kind,
            actor,
        )
        self._hub.close(connection, _why(command), actor=actor)

    # -- who comes ----------------------------------------------------------------------------

    @property
    def mark(self) -> int:
        """This moment among the commands."""
        return self._lately.heard

    def ask(self, token_id: str | None) -> asyncio.Future[Any] | None:
        """Ask whether a token is revoked, with what else is sent to Redis in this turn; ``None`` for one without an id."""
        return None if token_id is None else self._tokens.ask(digest_of(token_id))

    def ends(self, claim: Claim, entered_at: int, mark: int) -> Closing | None:
        """Why a connection that was given its place then must not begin, by what was heard since ``mark``.

        Raises:
            Unavailable: nobody knows any more.
        """
        for command in self._lately.since(mark, claim.user, claim.token_id):
            if self._ends(command, claim.connection, claim.issued_at, entered_at):
                return _why(command)
        return None

    async def admits(self, user: str, issued_at: float | None, token_id: str | None) -> bool:
        """Whether a token is not revoked that is shown on an open connection; waits while Redis does not answer.

        Raises:
            Unavailable: Redis has answered with an error that does not pass.
        """
        return await self._retry(lambda: self.admits_now(user, issued_at, token_id))

    async def admits_now(self, user: str, issued_at: float | None, token_id: str | None) -> bool:
        """The same, without waiting: ``Unavailable`` also where Redis does not answer."""
        mark = self.mark
        digest = None if token_id is None else digest_of(token_id)
        before, revoked = await self._tokens.look_up(user, digest)
        if revoked or (before is not None and _is_older(issued_at, before)):
            return False
        return self.admits_still(mark, user, issued_at, token_id)

    def admits_still(
        self, mark: int, user: str, issued_at: float | None, token_id: str | None
    ) -> bool:
        """Whether no command has revoked a token since ``mark``.

        Raises:
            Unavailable: nobody knows any more.
        """
        heard = self._lately.since(mark, user, token_id)
        return not any(_revokes(command, issued_at) for command in heard)

    # -- what may have gone unheard -----------------------------------------------------------

    def unheard(self) -> None:
        """Ask now about all, and let nobody in on an older answer: commands may have gone unheard."""
        self._lately.forget()
        self.recheck()

    def recheck(self) -> None:
        """Ask now about all users and tokens: a server that knows of some was away."""
        self._make_all_due()
        self._rechecked.clear()
        self._sleep.end()

    def _make_all_due(self) -> None:
        self._rechecks += 1
        self._due_users.update(self._of_user.names())
        self._due_tokens.update(self._of_token.names())

    async def until_rechecked(self) -> None:
        """Return once all have been asked about since that was due last. Some may not be known yet (:attr:`in_question`)."""
        await self._rechecked.wait()

    @property
    def in_question(self) -> set[Connection]:
        """The connections of which it is not known whether a command has ended them, or a token that they go by."""
        found = {each for user in self._due_users for each in self._of_user.of(user)}
        for digest in self._due_tokens:
            for holder in self._of_token.of(digest):
                found.add(holder.connection if isinstance(holder, Subscription) else holder)
        return found

    async def run(self) -> None:
        """Ask about what is due, and now and then about all, until cancelled."""
        backoff = Backoff(self._jitter)
        while True:
            rechecks = self._rechecks
            try:
                await self._ask_about(self._due_users, self._tokens.ended, self._look_into)
                await self._ask_about(self._due_tokens, self._tokens.revoked, self._end_token)
            except Unavailable as error:
                log.info("revocations_unchecked reason=%s", error.reason)
                await self._sleep(backoff.next())
                continue
            if rechecks != self._rechecks:
                continue
            self._rechecked.set()
            if self._due_users or self._due_tokens:
                await self._sleep(backoff.next())
                continue
            backoff.reset()
            if not await self._sleep(_RECHECK_SECONDS * (0.9 + self._jitter() / 5)):
                self._make_all_due()

    async def _ask_about(
        self,
        due: set[str],
        ask: Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]],
        end: Callable[[str], Awaitable[bool]],
    ) -> None:
        """Ask about all that is due, and ``end`` what has ended. What cannot be known now stays due."""
        for some in chunks(list(due), self._tokens.at_once):
            rechecks = self._rechecks
            found = await ask(some)
            ended = [name for name, is_ended in found.items() if is_ended]
            known = await asyncio.gather(*map(end, ended))
            # An answer that is older than what made it due once more says nothing.
            if rechecks == self._rechecks:
                due.difference_update(found)
                due.update(
                    name for name, is_known in zip(ended, known, strict=True) if not is_known
                )

    async def _look_into(self, user: str) -> bool:
        """End what was ended of a user; whether that could be found out."""
        connections = [each.id for each in self._of_user.of(user)]
        if connections:
            try:
                await self._places.ask(user, connections)
            except Rejected as error:
                if self._told.admit(error.reason):
                    log.warning("revocations_unknown reason=%s", error.reason)
                return False
        return True

    async def _end_token(self, digest: str) -> bool:
        self.carry_out(TokenRevoked(digest))
        return True


def _is_older(issued_at: float | None, before: float) -> bool:
    """Whether a token was issued ``before``; one that does not say when counts as old."""
    return issued_at is None or issued_at < before


def _why(command: Ending) -> Closing:
    """What a client is told whose connection a command ends."""
    match command:
        case Disconnect():
            return closing.disconnected(command.reason)
        case PlaceReplaced():
            return closing.REPLACED
        case _:
            return closing.TOKEN_REVOKED


def _revokes(command: Ending, issued_at: float | None) -> bool:
    """Whether a command revokes a token of the user, or with the id, that it is about."""
    if isinstance(command, TokensRevoked):
        return _is_older(issued_at, command.before)
    return isinstance(command, TokenRevoked)
