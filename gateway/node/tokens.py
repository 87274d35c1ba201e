"""Tokens of open connections: each connection ends with its token, unless it has shown another one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from gateway.core import closing, protocol
from gateway.core.access import Identity, KeyUnknown, TokenRejected
from gateway.core.protocol import BadRequest, ErrorCode
from gateway.core.timing import Expiries
from gateway.node.connection import Connection
from gateway.node.hub import Hub
from gateway.node.ports import Clock, Verifier
from gateway.node.recheck import Recheck
from gateway.node.rejected_tokens import RejectedTokens
from gateway.node.revocations import Revocations
from gateway.node.tasks import Tasks
from publisher.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """Seconds: by which clocks may differ, and before a token's end at which its client is told; 0: it is not."""

    leeway: float
    warning: float


class Tokens:
    """Watches over the tokens of a node's connections.

    Args:
        wall_clock: seconds since 1970, as in tokens; it may be set.
    """

    def __init__(
        self,
        hub: Hub,
        verifier: Verifier,
        recheck: Recheck,
        revocations: Revocations,
        tasks: Tasks,
        times: TokenTimes,
        clock: Clock,
        wall_clock: Clock,
    ) -> None:
        self._hub = hub
        self._verifier = verifier
        self._recheck = recheck
        self._revocations = revocations
        self._tasks = tasks
        self._times = times
        self._wall_clock = wall_clock
        self._expiries: Expiries[Connection] = Expiries(wall_clock())
        self._rejected = RejectedTokens(clock)
        # Who has shown a genuine token of which Redis has not said yet whether it is revoked, and whose own has ended since.
        self._asked_about: set[Connection] = set()
        self._doubted: set[Connection] = set()

    def watch(self, connection: Connection) -> None:
        """End a connection when its token does, and tell its client a while before, once for each token; to be called when
        the token is put in force.
        """
        self._revocations.watch(connection)
        if (expires_at := connection.identity.expires_at) is None:
            self._expiries.forget(connection)
        elif self._times.warning:
            self._expiries.expect(connection, self._warns_at(expires_at))
        else:
            self._expiries.expect(connection, expires_at)

    def _warns_at(self, expires_at: float) -> float:
        """When half of what a token has left has passed, if that is later: where all tokens are short, each renewal would
        be followed by the next one at once.
        """
        now, end = self._wall_clock(), self._told_end(expires_at)
        if (
            end <= now
        ):  # it lives on the leeway, as all of them do where the login's clock is behind
            end = expires_at
        return end - min(self._times.warning, (end - now) / 2)

    def _told_end(self, expires_at: float) -> float:
        """The token's own end. The connection lasts for the leeway longer, but nobody is to rely on that."""
        return expires_at - self._times.leeway

    def forget(self, connection: Connection) -> None:
        """Keep no watch over a connection any more."""
        self._revocations.forget(connection)
        self._expiries.forget(connection)
        self._doubted.discard(connection)
        if connection.refreshing is not None:
            connection.refreshing.cancel()

    def tick(self) -> None:
        """Close the connections whose tokens have run out, and tell those whose tokens soon will; to be called several
        times a second.
        """
        now = self._wall_clock()
        for connection in self._expiries.due(now):
            expires_at = connection.identity.expires_at
            assert expires_at is not None
            if now < expires_at:
                self._warn(connection, expires_at)
            elif connection in self._asked_about:
                # Else whoever has renewed in time would be ended because Redis is away.
                self._doubt(connection)
            else:
                self._expire(connection)

    def _doubt(self, connection: Connection) -> None:
        if connection not in self._doubted:
            self._doubted.add(connection)
            self._recheck.doubt(connection)

    def _expire(self, connection: Connection) -> None:
        log.info("token_expired connection=%s user=%r", connection.id, connection.user)
        self._hub.close(connection, closing.TOKEN_EXPIRED)

    def _warn(self, connection: Connection, expires_at: float) -> None:
        self._expiries.expect(connection, expires_at)
        if not connection.closed and connection.refreshing is None:
            self._hub.stats.tokens_expiring += 1
            told = protocol.token_expiring(int(self._told_end(expires_at) * 1000))
            self._hub.tell(connection, told)

    def refresh(self, connection: Connection, token: str) -> None:
        """Put a new token in the place of a connection's old one, once Redis has said that it is not revoked.

        Of several that are shown in the meantime the last one counts.

        Raises:
            BadRequest: it is not valid, or another user's; the old one stays in force.
        """
        found: Identity | KeyUnknown
        try:
            found = self._verified(connection, token)
        except KeyUnknown as unknown:
            found = unknown
        if connection.refreshing is not None:
            connection.refreshing.cancel()
        connection.refreshing = self._tasks.spawn(
            self._exchange(connection, token, found), f"refresh of {connection.id}"
        )

    def _verified(self, connection: Connection, token: str, *, learned: bool = False) -> Identity:
        """Whom a token speaks for.

        Raises:
            KeyUnknown: nobody knows yet; not where its key has been looked for (``learned``).
            BadRequest: it is not valid, or another user's.
        """
        try:
            identity = self._verifier.verify(token)
        except TokenRejected as rejected:
            if isinstance(rejected, KeyUnknown) and not learned:
                raise
            self._rejected.tell("refresh_rejected", connection, str(rejected))
            raise _refused(rejected.code, "Token rejected") from None
        if identity.user != connection.user:
            self._rejected.tell("refresh_rejected", connection, "it is another user's")
            raise BadRequest(
                ErrorCode.TOKEN_INVALID,
                "Token rejected",
                detail="a connection keeps its user; open another one",
            )
        return identity

    async def _exchange(
        self, connection: Connection, token: str, found: Identity | KeyUnknown
    ) -> None:
        try:
            if isinstance(found, KeyUnknown):
                await found.learn()
                found = self._verified(connection, token, learned=True)
            self._asked_about.add(connection)
            await self._see_to_revocation(found)
            self._refuse_expired(found)
            if not connection.closed:
                self._put_in_force(connection, found)
        except BadRequest as error:
            if not connection.closed:
                self._hub.stats.client_errors[error.code] += 1
                self._hub.tell(connection, error.render())
                self._go_by_the_old(connection)
        finally:
            self._asked_about.discard(connection)
            if connection.refreshing is asyncio.current_task():
                connection.refreshing = None

    def _go_by_the_old(self, connection: Connection) -> None:
        """Go on by the token before one that was refused; end the connection at once if that has run out meanwhile."""
        if _is_over(connection.identity, self._wall_clock()):
            self._expire(connection)

    async def _see_to_revocation(self, identity: Identity) -> None:
        """Return if a genuine token may be put in force.

        Raises:
            BadRequest: it may not.
        """
        try:
            admitted = await self._revocations.admits(
                identity.user, identity.issued_at, identity.token_id
            )
        except Unavailable as error:
            log.warning("refresh_failed reason=%s", error.reason)
            raise _refused(ErrorCode.INTERNAL_ERROR, "Internal error") from None
        if not admitted:
            raise _refused(ErrorCode.TOKEN_REVOKED, "Token rejected")

    def _refuse_expired(self, identity: Identity) -> None:
        """Put no token in force that has run out while Redis was asked.

        Raises:
            BadRequest: it has.
        """
        if _is_over(identity, self._wall_clock()):
            raise _refused(ErrorCode.TOKEN_EXPIRED, "Token rejected")

    def _put_in_force(self, connection: Connection, identity: Identity) -> None:
        self._revocations.forget(connection)
        connection.identity = identity
        self.watch(connection)
        self._recheck.refreshed(connection)
        if connection in self._doubted:
            self._doubted.discard(connection)
            self._recheck.trust(connection)


def _is_over(identity: Identity, now: float) -> bool:
    """Whether a token has run out."""
    return identity.expires_at is not None and identity.expires_at <= now


def _refused(code: ErrorCode, message: str) -> BadRequest:
    return BadRequest(code, message, detail="the old token stays in force")
