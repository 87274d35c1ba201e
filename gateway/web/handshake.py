"""The WebSocket handshake: who is let in, what the others are told, and how a connection begins and ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
from dataclasses import dataclass
from typing import Final

from gateway.core import closing, frames
from gateway.core.access import Identity, KeyUnknown, TokenRejected
from gateway.core.budget import Allowance, Budget
from gateway.core.closing import Closing
from gateway.core.frames import Encoding
from gateway.core.handshake import Agreement, Refusal, agree
from gateway.core.http import Head
from gateway.core.origins import AllowedOrigins
from gateway.node import audit
from gateway.node.connection import Connection
from gateway.node.lifetimes import Lifetimes
from gateway.node.ports import Claim, Clock, Verifier
from gateway.node.requests import Requests
from gateway.node.tasks import Tasks
from gateway.node.user_budgets import UserBudgets
from gateway.web.admission import Admission, unavailable
from gateway.web.auth import find_token, query_parameters, wants_batches, why_none
from gateway.web.new_connection import NewConnection
from gateway.web.reading import Turns
from gateway.web.refused_connections import RefusedConnections
from gateway.web.socket import ClientSocket, Session
from publisher.errors import Unavailable

log = logging.getLogger(__name__)

# A message that is too large ends the connection, since the rest of it would have to be read all the same. Up to
# this multiple of the limit it is read whole instead, and answered with an error.
_READ_LIMIT_FACTOR: Final = 16

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
    """Serves requests for a WebSocket.

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
        self._requests = requests
        self._refusals = refusals
        self._limits = limits
        self._timings = admission.timings
        self._clock = clock
        self._wall_clock = wall_clock
        # Unique within a node, whose own id is unique in the cluster.
        self._ids = itertools.count(1)
        self._under_way = Tasks()
        self._turns = Turns(clock)
        self._user_budgets = UserBudgets(limits.user_budget, clock)

    async def aclose(self) -> None:
        """End the handshakes that are under way."""
        await self._under_way.aclose()

    def begin(self, new: NewConnection, head: Head) -> None:
        """Let a client in and hand its connection to a session, or tell it why not; soon, if Redis has to be asked."""
        agreement = agree(head, compression=self._limits.compression)
        if isinstance(agreement, Refusal):
            self._refusals.refuse(new, agreement)
        elif not self._turned_away(new, head):
            self._authenticate(new, head, agreement, self._timings.clock())

    def _turned_away(self, new: NewConnection, head: Head) -> bool:
        """Whether it was refused before the upgrade, so that a load balancer can try another node."""
        origin = head.get("origin")
        if not self._limits.allowed_origins.allow(origin):
            self._refusals.note("origin", new.address, origin=origin or "")
            new.refuse(_FOREIGN_ORIGIN.answer)
            return True
        return self._not_welcome(new)

    def _not_welcome(self, new: NewConnection) -> bool:
        """Whether it was refused since nobody is let in at the moment."""
        reason = self._admission.refusal()
        if reason is not None:
            self._refusals.refuse(new, unavailable(reason))
        return reason is not None

    # -- before or after the upgrade ----------------------------------------------------------

    def _authenticate(
        self,
        new: NewConnection,
        head: Head,
        agreement: Agreement,
        since: float,
        *,
        learned: bool = False,
    ) -> None:
        parameters = query_parameters(head)
        try:
            token = find_token(head, parameters, self._limits.cookie)
            if token is None:
                self._reject(
                    new, agreement, closing.TOKEN_MISSING, why_none(head, self._limits.cookie)
                )
                return
            identity = self._verifier.verify(token)
        except TokenRejected as rejected:
            if isinstance(rejected, KeyUnknown) and not learned:
                learning = self._learn(new, head, agreement, since, rejected)
                self._under_way.spawn(learning, "learn a key")
                return
            why = closing.REJECTED_TOKEN[rejected.code]
            self._reject(new, agreement, why, cause=str(rejected))
            return
        new.known()
        self._timings.phase(self._timings.handshake, "token", since)
        encoding = frames.encoding(agreement.window_bits, wants_batches(parameters))
        self._under_way.spawn(self._admit(new, agreement, encoding, identity), "handshake")

    async def _learn(
        self,
        new: NewConnection,
        head: Head,
        agreement: Agreement,
        since: float,
        unknown: KeyUnknown,
    ) -> None:
        """Judge a token again when its key may be known. Until then its client counts as one that has shown none."""
        try:
            await unknown.learn()
            if not new.waits:
                new.drop()
            elif not self._not_welcome(new):
                self._authenticate(new, head, agreement, since, learned=True)
        except asyncio.CancelledError:  # the node stops
            new.drop()
            raise
        except Exception:
            log.exception("handshake_failed")
            new.drop()

    async def _admit(
        self, new: NewConnection, agreement: Agreement, encoding: Encoding, identity: Identity
    ) -> None:
        """Begin the connection if its user and the node have room for it."""
        user = identity.user
        claim = Claim(user, f"{next(self._ids):x}", identity.issued_at, identity.token_id)
        entry: int | Closing | Refusal = closing.CONNECTION_LIMIT
        begun = False
        try:
            entry = await self._admission.enter(claim, lambda: new.waits)
            judged = self._unless_over(identity, entry)
            if not new.waits:
                new.drop()
            elif isinstance(judged, Refusal):
                self._refusals.refuse(new, judged)
            elif isinstance(judged, Closing):
                self._reject(new, agreement, judged, user=user)
            elif not self._admission.open:  # the drain has begun meanwhile
                self._refusals.refuse(new, unavailable("not_ready"))
            else:
                self._begin(new, agreement, encoding, identity, claim.connection, judged)
                begun = True
        except Unavailable:
            self._refusals.refuse(new, unavailable("redis_unavailable"))
        except asyncio.CancelledError:  # the node stops
            new.drop()
            raise
        except Exception:
            log.exception("handshake_failed")
            new.drop()
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
        self,
        new: NewConnection,
        agreement: Agreement,
        why: Closing,
        cause: str = "",
        **details: str,
    ) -> None:
        """Upgrade all the same: only then can a browser see the ``error`` and the close code."""
        if not self._refusals.reject(new, why.reason, cause, **details):
            return
        error = b"" if why.error is None else frames.text(why.error)
        new.reject(agreement.answer + error + frames.close(why))

    def _begin(
        self,
        new: NewConnection,
        agreement: Agreement,
        encoding: Encoding,
        identity: Identity,
        connection_id: str,
        entered_at: int,
    ) -> None:
        """Upgrade the connection, and let a session serve it."""
        limits = self._limits
        socket = ClientSocket(encoding, limits.high_water_bytes, self._turns, new.plain_socket)
        now, since = self._clock(), self._timings.clock()
        budget = Budget(*limits.budget, limits.max_subscriptions, now)
        connection = Connection(
            connection_id, identity, socket, budget, new.address, entered_at, now
        )
        self._user_budgets.enter(identity.user, budget)
        early = new.hand_over(socket)
        audit.admitted(connection, agreement.origin)
        log.debug(
            "connection_opened connection=%s user=%r address=%s",
            connection_id,
            identity.user,
            new.address or "unknown",
        )
        session = Session(self._lifetimes, self._requests, connection, socket, self._left)
        session.begin(limits.max_message_bytes * _READ_LIMIT_FACTOR, agreement.answer, early)
        self._timings.phase(self._timings.handshake, "start", since)

    def _left(self, connection: Connection, code: int | None) -> None:
        """A client has closed, or is gone."""
        try:
            self._lifetimes.end(connection, code)
        finally:
            self._user_budgets.leave(connection.user, connection.budget)
            self._admission.leave(connection.user, connection.id)
        log.debug(
            "connection_closed connection=%s user=%r code=%s", connection.id, connection.user, code
        )
