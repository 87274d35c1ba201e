"""The places that users' connections hold, counted across the cluster.

A place is a lease in the user's sorted set. When a user is at the limit, what nobody holds any more is
dropped and the place is asked for again, so that neither a crash nor a failover nor a dead line blocks anybody
for long: places of nodes that are gone (``NodeLease``), places that this node does not know, and those
that the living nodes give back when they look through theirs (``place_checks.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from gateway.backplane.place_checks import CHECK_SECONDS, PlaceChecks
from gateway.backplane.place_releases import CALLS_AT_ONCE, Releases, gather_calls
from gateway.backplane.place_table import GRACE, PlaceTable
from gateway.backplane.servers import ONE, Servers
from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.ports import Claim, Denied, Entry
from gateway.node.tasks import Sleep, Tasks
from publisher.contract.control import Disconnect, TokensRevoked
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3
_TRIES: Final = 5
_RETAKING_SECONDS: Final = 0.25
"""A lost place is waited for no longer than this: the node is not ready meanwhile."""
_AGAIN_SECONDS: Final = 0.5
"""While a user's places are looked through one is asked for so often: one may be given back for any reason."""


Wanted: TypeAlias = Callable[[], Awaitable[bool]]


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class PlaceEvents:
    """What places tell of, and ask for.

    ``look``: pings connections of this node (by id), and returns when each has shown life or was closed and its place
    given back. ``lost``: told the id of a connection whose place is gone and could not be taken again; told again at every
    renewal until it is released. ``ended``: told what a renewal has found that ends connections.
    """

    look: Callable[[list[str]], Awaitable[None]]
    lost: Callable[[str], None]
    ended: Callable[[Disconnect | TokensRevoked], None]


class Held(NamedTuple):
    """A connection that needs a place. ``entered``: when it was given one first, in microseconds of Redis' clock."""

    user: str
    entered: int


class Places:
    """Takes, renews and releases places.

    ``_held`` are the connections that need a place, the oldest first, and ``_taking`` those that ask for
    one. ``releases`` has those without, for which Redis may hold a place all the same: those that have
    left, and those whose call came too late or has an unknown outcome.

    Args:
        pipeline: for what clients wait for.
        upkeep: for what the node does by itself, and waits for before it is ready.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pipeline: Calls,
        upkeep: Calls,
        table: PlaceTable,
        events: PlaceEvents,
        tasks: Tasks,
        jitter: Callable[[], float],
        servers: Servers = ONE,
    ) -> None:
        self._away = servers.away
        self._pipeline = pipeline
        self._upkeep = upkeep
        self._table = table
        self._events = events
        self._jitter = jitter
        self._held: dict[str, Held] = {}
        self._taking: set[str] = set()
        self.releases = Releases(pipeline, table.release, servers)
        self.checks = PlaceChecks(pipeline, table, self.reconcile, events.look, tasks)
        self._sleep = Sleep()
        self._restorations = 0
        self._restored = 0
        self._in_question = 0
        self.rounds = 0
        # Users whose places Redis refuses to renew: each is told once.
        self._refused: set[str] = set()

    # -- taking -------------------------------------------------------------------------------

    async def acquire(self, claim: Claim, wanted: Wanted = _always) -> Entry:
        """Take a place for a connection; ``FULL`` when the user holds all they may, after five seconds at most.

        Before one is waited for, or another connection gives way, ``wanted`` is asked whether the client still waits and may
        have it.

        Raises:
            Unavailable: Redis did not answer, or not with an answer.
        """
        user, connection = claim.user, claim.connection
        self._taking.add(connection)
        try:
            entry = await self._take_surely(claim, wanted)
        except BaseException:
            # Redis may take the place all the same, now or when it wakes up.
            self.releases.release(user, connection)
            raise
        finally:
            self._taking.discard(connection)
        if not isinstance(entry, Denied):
            self._held[connection] = Held(user, entry)
        return entry

    async def _take_surely(self, claim: Claim, wanted: Wanted) -> Entry:
        """Take a place, from the server that has the places by then.

        A primary that hung while another one took over may still answer. What it gives is lost, and the renewal that
        follows a failover may have been made before.
        """
        while True:
            in_question = self._in_question
            entry = await self._take(claim, CHECK_SECONDS, wanted)
            if in_question == self._in_question:
                return entry

    async def _take(
        self, claim: Claim, patience: float, wanted: Wanted, *, again: bool = False
    ) -> Entry:
        """Take a place, if need be one that is given back within ``patience`` seconds."""
        entry, holders = await self._try(claim, wanted, again)
        if entry is not Denied.FULL or not await wanted():
            return entry
        check = self.checks.of(claim.user, holders[::2])
        over = False
        while entry is Denied.FULL and not over:
            await check.wait(min(_AGAIN_SECONDS, patience))
            if not await wanted():
                break
            patience -= _AGAIN_SECONDS
            over = check.over or patience <= 0
            entry, _ = await self._try(claim, wanted, again)
        return entry

    async def _try(self, claim: Claim, wanted: Wanted, again: bool) -> tuple[Entry, list[bytes]]:
        """Take a place, if need be one that nobody holds any more; with who holds them all, if they are held.

        A node may count as dead a moment later only. It answers no check, so each try looks again.
        """
        reply = await self._pipeline.call(self._table.take(claim, again=again))
        entry, holders = self._table.entry(reply)
        if entry is not Denied.FULL:
            return entry, holders
        gone = await self._gone(holders)
        if gone:
            log.info("places_dropped user=%r count=%d", claim.user, len(gone) // 2)
        # A dead node's place goes before a living one, and who was here before takes nobody's.
        replace = self._table.replacements is not None and not again and await wanted()
        if gone or replace:
            call = self._table.take(claim, gone, again=again, replace=replace)
            entry, holders = self._table.entry(await self._pipeline.call(call))
        return entry, holders

    async def _gone(self, holders: list[bytes]) -> list[bytes]:
        """Those of ``holders`` (member, expiry, member, ...) that nobody holds, as far as can be told here."""
        living = await self.living()
        return [
            part
            for member, expiry in zip(holders[::2], holders[1::2], strict=True)
            if (living is not None and self._table.node_of(member) not in living)
            or self._unknown(member)
            for part in (member, expiry)
        ]

    async def living(self) -> set[bytes] | None:
        """The nodes that live. ``None`` while the list of nodes is away, or has just come back: then none is dead.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        if self._away(self._table.keys.nodes):
            return None
        living = set(await self._pipeline.call(self._table.living()))
        # Without this node on it the list is one that nobody could write to, or that Redis has lost. In a time of
        # grace nodes may be missing that were never on it.
        is_whole = self._table.node.encode() in living and GRACE not in living
        return living if is_whole else None

    def _unknown(self, member: bytes) -> bool:
        """Whether a place is this node's and no connection's: a failover can bring back what was released."""
        connection = self._table.own(member)
        return connection is not None and not (
            connection in self._held or connection in self._taking
        )

    def give_back(self, user: str, connection: str) -> None:
        """Give a place back, together with those of others that leave now; Redis may be away.

        A connection that took none is no error.
        """
        if self._held.pop(connection, None) is not None or connection in self.releases:
            self.releases.release(user, connection)

    # -- keeping ------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether all places have been renewed since they were last in question."""
        return self._restored >= self._in_question

    async def ask(self, user: str, connections: Iterable[str]) -> None:
        """Renew the places of one user's connections, and tell what has ended any of them.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        await self._renew_known(user, self._entered(connections))

    def restore(self) -> None:
        """Renew all places at once."""
        self._restorations += 1
        self._sleep.end()
        self.releases.hurry()

    def recount(self) -> None:
        """Renew them at once: Redis may have lost them, or others have dropped them."""
        self.restore()
        self._in_question = self._restorations

    async def run_renewal(self) -> None:
        """Keep the places until cancelled."""
        backoff = Backoff(self._jitter)
        failures = 0
        while True:
            restorations = self._restorations
            self.rounds += 1
            try:
                failed = await self.renew()
            except Unavailable as error:
                if not failures:
                    log.warning("places_unrenewed held=%d reason=%s", len(self._held), error.reason)
                failures += 1
                await self._sleep(backoff.next())
                continue
            # What fails again and again for a few is no reason to admit nobody.
            if failed and failures < _TRIES:
                failures += 1
                await self._sleep(backoff.next())
                continue
            self._restored = restorations
            failures = 0
            backoff.reset()
            await self._sleep(self._table.seconds / _RENEWALS_PER_LEASE)

    async def renew(self) -> int:
        """Renew all places; one that was lost meanwhile is taken again, or reported.

        Returns of how many users the places could not be renewed, though trying again may help.

        Raises:
            Unavailable: Redis did not answer at all.
        """
        failed = 0
        by_user: dict[str, list[str]] = {}
        for connection, held in self._held.items():
            by_user.setdefault(held.user, []).append(connection)
        self._refused &= by_user.keys()
        for some in chunks(by_user.items(), CALLS_AT_ONCE):
            failed += await gather_calls(
                self._renew(user, connections)
                for user, connections in some
                # Asked each time: those of a server that hangs would cost every one of these rounds its time-out.
                if not self._away(self._table.keys.connections(user))
            )
        return failed

    async def reconcile(self, user: str) -> None:
        """Release the places of a user that are this node's and no connection's."""
        try:
            await self._renew(user, [])
        except Unavailable as error:
            log.info("places_unreconciled user=%r reason=%s", user, error.reason)

    async def _renew(self, user: str, connections: list[str]) -> None:
        try:
            await self._renew_known(user, self._entered(connections))
        except Rejected as error:
            # A permanent error of one key concerns nobody else, and to try again at once would not help.
            if user not in self._refused:
                log.warning("places_refused user=%r reason=%s", user, error.reason)
                self._refused.add(user)
        else:
            self._refused.discard(user)

    def _entered(self, connections: Iterable[str]) -> dict[str, int]:
        return {each: self._held[each].entered for each in connections if each in self._held}

    async def _renew_known(self, user: str, entered: dict[str, int]) -> None:
        try:
            left, ours, ended = await self._upkeep.call(self._table.renew(user, entered))
        finally:
            self._release_left(user, entered)
        for command in self._table.endings(user, ended):
            self._events.ended(command)
        for member in ours:
            connection = self._table.own(member)
            if connection is not None and self._unknown(member) and connection not in self.releases:
                log.info("place_unknown user=%r connection=%s", user, connection)
                self.releases.release(user, connection)
        for member in left:
            await self._take_again(user, self._table.own(member))

    async def _take_again(self, user: str, connection: str | None) -> None:
        if connection is None or connection not in self._held:
            return
        claim = Claim(user, connection)

        async def wanted() -> bool:
            return connection in self._held

        try:
            entry = await self._take(claim, _RETAKING_SECONDS, wanted, again=True)
        finally:
            self._release_left(user, [connection])
        if isinstance(entry, Denied) and connection in self._held:
            self._events.lost(connection)

    def _release_left(self, user: str, connections: Iterable[str]) -> None:
        """See to it that a call which came after a release leaves no place taken."""
        for connection in connections:
            if connection not in self._held:
                self.releases.release(user, connection)
