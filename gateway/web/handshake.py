"""The handshake: who is let in, what the others are told, and how a connection begins and ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core import closing, frames
from gateway.core.access import Identity, KeyUnknown, TokenRejected
from gateway.core.budget import Allowance, Budget
from gateway.core.closing import Closing
from gateway.core.handshake import Refusal, agree
from gateway.core.http import Head
from gateway.core.origins import AllowedOrigins
from gateway.node import audit
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.ports import Claim, Clock, Socket, Verifier
from gateway.node.requests import Requests
from gateway.node.tasks import Tasks
from gateway.node.user_budgets import UserBudgets
from gateway.web.admission import Admission, unavailable
from gateway.web.auth import find_token, query_parameters, wants_batches, why_none
from gateway.web.new_connection import NewConnection
from gateway.web.openings import Opening, Serving, WebSocketOpening
from gateway.web.reading import Turns
from gateway.web.refused_connections import RefusedConnections
from gateway.web.revoked_lately import RevokedLately
from gateway.web.socket import Leaving
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

# A message that is too large ends the connection, since the rest of it would have to be read all the same. Up to
# this multiple of the limit it is read whole instead, and answered with an error.
_READ_LIMIT_FACTOR: Final = 16

Known = Callable[[Identity], None]
"""What is done for whoever has shown a valid token."""

_MORE_PARAMETERS: Final = 20
"""So many a query may have beside its channels, for ours and for those that proxies and analytics add."""
_FOREIGN_ORIGIN: Final = Refusal(403, "origin_not_allowed", "this origin may not connect")


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients are held to. ``user_budget``: that of all connections of a user on this node.
    ``cookie``: the name of the one that may hold a token.
    """

    max_message_bytes: int
    high_water_bytes: int
    budget: Allowance
    user_budget: Allowance
    max_subscriptions: int
    allowed_origins: AllowedOrigins
    compression: bool
    cookie: str | None = None


class Handshakes:
    """Lets clients in, or tells them why not, whatever they have asked for.

    Args:
        wall_clock: seconds since 1970, as in tokens; it may be set.
    """

    def __init__(
        self,
        admission: Admission,
        verifier: Verifier,
        lifetimes: Lifetimes,
        requests: Requests,
        refusals: RefusedConnections,
        limits: Limits,
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        self._admission = admission
        self._verifier = verifier
        self._lifetimes = lifetimes
        self._refusals = refusals
        self._limits = limits
        self._timings = admission.timings
        self._clock = clock
        self._wall_clock = wall_clock
        # Unique within a node, whose own id is unique in the cluster.
        self._ids = itertools.count(1)
        self._under_way = Tasks()
        self._revoked = RevokedLately(clock)
        self.serving = Serving(
            lifetimes,
            requests,
            Turns(clock),
            limits.high_water_bytes,
            limits.max_message_bytes * _READ_LIMIT_FACTOR,
        )
        self._user_budgets = UserBudgets(limits.user_budget, clock)
        self._leaving = Leaving(self._left, admission.give_back)

    async def aclose(self) -> None:
        """End the handshakes that are under way."""
        await self._under_way.aclose()

    def begin(self, new: NewConnection, head: Head) -> None:
        """Serve a request for a WebSocket."""
        agreement = agree(head, compression=self._limits.compression)
        if isinstance(agreement, Refusal):
            self._refusals.refuse(new, agreement)
            return
        if self.is_foreign(new, head) or self.is_overlong(new, head):
            return
        encoding = frames.encoding(agreement.window_bits, wants_batches(query_parameters(head)))
        self.open(new, WebSocketOpening(head, agreement, encoding, self.serving))

    def identify(self, new: NewConnection, opening: Opening, then: Known) -> None:
        """Find out who asks something of a connection that has begun; ``then`` serves it, soon if a key has to be looked for.
        Whoever is not known is told.
        """
        self._authenticate(new, opening, then)

    def ask_about(
        self, new: NewConnection, opening: Opening, identity: Identity, then: Known
    ) -> None:
        """Ask Redis whether the token is revoked that :meth:`identify` has judged; ``then`` serves whose is not. Until that is known
        its client counts as one that has shown none.
        """
        work = partial(self._ask_about, new, opening, identity, then)
        self._spawn(new, work, "ask about a token")

    def open(self, new: NewConnection, opening: Opening) -> None:
        """Let a client in whose page may ask (:meth:`is_foreign`) and hand its connection over, or tell it why not; soon, if Redis has to
        be asked.
        """
        since = self._timings.clock()

        def known(identity: Identity) -> None:
            new.known()
            self._timings.phase(self._timings.handshake, "token", since)
            self._spawn(new, partial(self._admit, new, opening, identity), "handshake")

        if not self._not_welcome(new):
            self._authenticate(new, opening, known)

    def is_foreign(self, new: NewConnection, head: Head) -> bool:
        """Whether it was refused since a page has asked that may not."""
        origin = head.get("origin")
        if self._limits.allowed_origins.allow(origin):
            return False
        self._refusals.note("origin", new.address, origin=origin or "")
        new.refuse(_FOREIGN_ORIGIN)
        return True

    def is_overlong(self, new: NewConnection, head: Head) -> bool:
        """Whether it was refused since its query has more parameters than any that can be served: nobody has shown a token for the
        time that it takes to decode them.
        """
        channels = self._limits.max_subscriptions
        if head.parameter_count <= channels + _MORE_PARAMETERS:
            return False
        names_too_many = f"&{head.query}".count("&channel=") > channels
        code = "too_many_subscriptions" if names_too_many else "bad_request"
        message = f"a query has at most {channels} channels and {_MORE_PARAMETERS} other parameters"
        self._refusals.refuse(new, Refusal(400, code, message, cause="parameters"))
        return True

    def _not_welcome(self, new: NewConnection) -> bool:
        """Whether it was refused since nobody is let in at the moment: before the upgrade, so that a load balancer can try another node."""
        reason = self._admission.refusal()
        if reason is not None:
            self._refusals.refuse(new, unavailable(reason))
        return reason is not None

    # -- before or after the upgrade ----------------------------------------------------------

    def _authenticate(
        self, new: NewConnection, opening: Opening, then: Known, *, learned: bool = False
    ) -> None:
        try:
            identity = self._identify(new, opening)
        except TokenRejected as rejected:
            if isinstance(rejected, KeyUnknown) and not learned:
                work = partial(self._learn, new, opening, then, rejected)
                self._spawn(new, work, "learn a key")
                return
            why = closing.REJECTED_TOKEN[rejected.code]
            self._reject(new, opening, why, cause=str(rejected))
            return
        if identity is None:
            return
        if self._revoked.has(identity):
            self._reject(new, opening, closing.TOKEN_REVOKED, user=identity.user)
        else:
            then(identity)

    def _identify(self, new: NewConnection, opening: Opening) -> Identity | None:
        """Who has asked; ``None`` where no token was shown, and that was answered.

        Raises:
            TokenRejected: the token is not good.
        """
        head = opening.head
        cookie = self._limits.cookie
        counts = cookie if opening.cookie_counts else None
        token = find_token(head, query_parameters(head), counts)
        if token is not None:
            return self._verifier.verify(token)
        self._reject(new, opening, closing.TOKEN_MISSING, why_none(head, cookie))
        return None

    async def _learn(
        self, new: NewConnection, opening: Opening, then: Known, unknown: KeyUnknown
    ) -> None:
        """Judge a token again when its key may be known. Until then its client counts as one that has shown none."""
        await unknown.learn()
        if new.waits:
            self._authenticate(new, opening, then, learned=True)
        else:
            new.drop()

    async def _ask_about(
        self, new: NewConnection, opening: Opening, identity: Identity, then: Known
    ) -> None:
        admitted = await self._admission.admits(identity)
        if not admitted:
            self._revoked.note(identity)
        if new.gone:
            return
        if admitted:
            then(identity)
        else:
            self._reject(new, opening, closing.TOKEN_REVOKED, user=identity.user)

    # -- asking Redis -------------------------------------------------------------------------

    def _spawn(self, new: NewConnection, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._under_way.spawn(self._see_to(new, work), name)

    async def _see_to(self, new: NewConnection, work: Callable[[], Awaitable[None]]) -> None:
        """Do what a client waits for. Whatever fails, it is answered or its connection ends."""
        try:
            await work()
        except Unavailable:
            self._refusals.refuse(new, unavailable("redis_unavailable"))
        except asyncio.CancelledError:  # the node stops
            new.drop()
            raise
        except Exception:
            log.exception("handshake_failed")
            new.drop()

    async def _admit(self, new: NewConnection, opening: Opening, identity: Identity) -> None:
        """Begin the connection if its user and the node have room for it."""
        user = identity.user
        claim = Claim(user, f"{next(self._ids):x}", identity.issued_at, identity.token_id)
        entry: int | Closing | Refusal = closing.CONNECTION_LIMIT
        begun = False
        try:
            entry = opening.denial(user) or await self._admission.enter(claim, lambda: new.waits)
            if entry is closing.TOKEN_REVOKED:
                self._revoked.note(identity)
            judged = self._unless_over(identity, entry)
            if not new.waits:
                new.drop()
            elif isinstance(judged, Refusal):
                self._refusals.refuse(new, judged, user=user)
            elif isinstance(judged, Closing):
                self._reject(new, opening, judged, user=user)
            elif not self._admission.open:  # the drain has begun meanwhile
                self._refusals.refuse(new, unavailable("not_ready"))
            else:
                self._begin(new, opening, identity, claim.connection, judged)
                begun = True
        finally:
            if isinstance(entry, int) and not begun:
                self._admission.leave(user, claim.connection)

    def _unless_over(
        self, identity: Identity, entry: int | Closing | Refusal
    ) -> int | Closing | Refusal:
        """What has been said about a client, unless its token has run out while Redis was asked for a place."""
        end = identity.expires_at
        is_over = end is not None and end <= self._wall_clock()
        return closing.TOKEN_EXPIRED if is_over and isinstance(entry, int) else entry

    def _reject(
        self, new: NewConnection, opening: Opening, why: Closing, cause: str = "", **details: str
    ) -> None:
        if self._refusals.reject(new, why.reason, cause, **details):
            opening.reject(new, why)

    def _begin(
        self,
        new: NewConnection,
        opening: Opening,
        identity: Identity,
        connection_id: str,
        entered_at: int,
    ) -> None:
        """Let the connection be served."""
        limits = self._limits
        now, since = self._clock(), self._timings.clock()

        def make(socket: Socket) -> Connection:
            budget = Budget(*limits.budget, limits.max_subscriptions, now)
            connection = Connection(
                connection_id, identity, socket, budget, new.address, entered_at, now
            )
            self._user_budgets.enter(identity.user, budget)
            audit.admitted(connection, opening.head.get("origin"))
            log.debug(
                "connection_opened connection=%s user=%r address=%s",
                connection_id,
                identity.user,
                new.address or "unknown",
            )
            return connection

        opening.begin(new, make, self._leaving)
        self._timings.phase(self._timings.handshake, "start", since)

    def _left(self, connection: Connection, code: int | None) -> None:
        """A client has closed, or is gone. It holds room until its connection is over: it may not have taken all."""
        try:
            self._lifetimes.end(connection, code)
        finally:
            self._user_budgets.leave(connection.user, connection.budget)
            self._admission.give_back_place(connection.user, connection.id)
        log.debug(
            "connection_closed connection=%s user=%r code=%s", connection.id, connection.user, code
        )
