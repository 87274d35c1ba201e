"""The places that users' connections hold, counted across the cluster.

A place is a lease in the user's sorted set. A node has a lease of its own (``beat.py``), far shorter:
when a user is at the limit, places held through a node that is gone are dropped and the acquire is tried
once more, so that a crash blocks nobody for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.tasks import Pause
from publisher.contract import scripts
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Pipeline, has_failed

log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3
_CALLS_AT_ONCE: Final = 200
_DEBT_SECONDS: Final = 3.0
_TRIES: Final = 5


@dataclass(slots=True, eq=False)
class _Debt:
    """A place to be given back."""

    user: str


class Leases:
    """Takes, renews and gives back places.

    ``_held`` are the connections that need a place, the oldest first. ``_owed`` are those without, for
    which Redis may hold a place all the same: those that have left, and those whose acquire or renewal
    came too late or has an unknown outcome.

    Args:
        pipeline: for what clients wait for.
        upkeep: for what the node does by itself, and waits for before it is ready.
        limit: connections a user may hold.
        lease: seconds a place is held without renewal.
        lost: told the id of a connection whose place is gone and could not be taken again; told
            again at every renewal until it is released.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        upkeep: Pipeline,
        keys: Keys,
        node: str,
        limit: int,
        lease: float,
        lost: Callable[[str], None],
        jitter: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._upkeep = upkeep
        self._keys = keys
        self._node = node
        self._limit = limit
        self._lease = lease
        self._lost = lost
        self._jitter = jitter
        self._held: dict[str, str] = {}
        self._owed: dict[str, _Debt] = {}
        self._solvent = True
        self._renewal = Pause()
        self._payment = Pause()
        self._restorations = 0
        self._restored = 0

    # -- places -------------------------------------------------------------------------------

    async def acquire(self, user: str, connection: str) -> bool:
        """Take a place for a connection; ``False`` when the user holds all they may.

        Raises:
            Unavailable: Redis did not answer.
        """
        try:
            taken = await self._take(user, connection)
        except BaseException:
            # Redis may take the place all the same, now or when it wakes up.
            self._owe(user, connection)
            raise
        if taken:
            self._held[connection] = user
        return taken

    def give_back(self, user: str, connection: str) -> None:
        """Give a place back, together with those of others that leave now; Redis may be away.

        A connection that took none is no error.
        """
        if self._held.pop(connection, None) is not None or connection in self._owed:
            self._owe(user, connection)

    def _owe(self, user: str, connection: str) -> None:
        debt = self._owed[connection] = _Debt(user)
        if self._solvent:
            # At once and without a task: who comes back in this turn comes behind it.
            self._begin(connection, debt).add_done_callback(partial(self._settle, connection, debt))

    def _begin(self, connection: str, debt: _Debt) -> asyncio.Future[Reply]:
        return self._pipeline.begin(
            Call(("ZREM", self._keys.connections(debt.user), self._member(connection)))
        )

    def _settle(self, connection: str, debt: _Debt, answer: asyncio.Future[Reply]) -> None:
        if has_failed(answer):
            self._solvent = False  # from now on as often as the debts are paid
        elif self._owed.get(connection) is debt:
            # One that was made meanwhile is about a place that was perhaps taken after this.
            del self._owed[connection]

    async def _take(self, user: str, connection: str) -> bool:
        holders = await self._acquire(user, connection)
        if holders and (dead := await self._dead(holders)):
            log.info("leases_dropped user=%r count=%d", user, len(dead) // 2)
            holders = await self._acquire(user, connection, dead)
        return not holders

    async def _acquire(self, user: str, connection: str, dead: Iterable[bytes] = ()) -> list[bytes]:
        holders: list[bytes] = await self._pipeline.call(
            Call.run(
                scripts.ACQUIRE,
                [self._keys.connections(user)],
                self._member(connection),
                self._limit,
                round(self._lease * 1000),
                *dead,
            )
        )
        return holders

    async def _dead(self, holders: list[bytes]) -> list[bytes]:
        """Those of ``holders`` (member, expiry, member, ...) whose node is gone."""
        living = set(await self._pipeline.call(Call.run(scripts.LIVE_NODES, [self._keys.nodes])))
        # Redis may have lost the list; then this node is not on it before its next beat.
        living.add(self._node.encode())
        return [
            part
            for member, expiry in zip(holders[::2], holders[1::2], strict=True)
            if member.rpartition(b"/")[0] not in living
            for part in (member, expiry)
        ]

    def _member(self, connection: str) -> str:
        return f"{self._node}/{connection}"

    # -- keeping them -------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether all places have been renewed since they were last to be restored."""
        return self._restored == self._restorations

    def restore(self) -> None:
        """Renew all places at once: Redis may have lost them, or others have dropped them."""
        self._restorations += 1
        self._renewal.cut()
        self._payment.cut()

    async def run_renewal(self) -> None:
        """Keep the places until cancelled."""
        backoff = Backoff(self._jitter)
        failures = 0
        while True:
            restorations = self._restorations
            try:
                failed = await self.renew()
            except Unavailable as error:
                if not failures:
                    log.warning("leases_unrenewed held=%d reason=%s", len(self._held), error.reason)
                failures += 1
                await self._renewal(backoff.next())
                continue
            # What Redis refuses again and again for a few is no reason to admit nobody.
            if failed and failures < _TRIES:
                failures += 1
                await self._renewal(backoff.next())
                continue
            self._restored = restorations
            failures = 0
            backoff.reset()
            await self._renewal(self._lease / _RENEWALS_PER_LEASE)

    async def renew(self) -> int:
        """Renew all places; one that was lost meanwhile is taken again, or reported.

        Returns of how many users the places could not be renewed.

        Raises:
            Unavailable: Redis did not answer at all.
        """
        failed = 0
        by_user: dict[str, list[str]] = {}
        for connection, user in self._held.items():
            by_user.setdefault(user, []).append(connection)
        for some in chunks(by_user.items(), _CALLS_AT_ONCE):
            failed += await _all(self._renew(user, connections) for user, connections in some)
        return failed

    async def _renew(self, user: str, connections: list[str]) -> None:
        connections = [each for each in connections if each in self._held]
        if not connections:
            return
        try:
            left = await self._upkeep.call(
                Call.run(
                    scripts.RENEW,
                    [self._keys.connections(user)],
                    round(self._lease * 1000),
                    self._limit,
                    *map(self._member, connections),
                )
            )
        finally:
            self._disown(user, connections)
        for member in left:
            await self._take_again(user, member.decode().rpartition("/")[2])

    async def _take_again(self, user: str, connection: str) -> None:
        if connection not in self._held:
            return
        try:
            taken = await self._take(user, connection)
        finally:
            self._disown(user, [connection])
        if not taken and connection in self._held:
            self._lost(connection)

    def _disown(self, user: str, connections: list[str]) -> None:
        """See to it that a call which came after a release leaves no place taken."""
        for connection in connections:
            if connection not in self._held:
                self._owe(user, connection)

    async def run_payment(self) -> None:
        """Give back what is owed, until cancelled."""
        while True:
            await self._payment(_DEBT_SECONDS)
            try:
                await self.pay()
            except Unavailable as error:
                self._solvent = False
                log.info("leases_owed count=%d reason=%s", len(self._owed), error.reason)
            else:
                self._solvent = True

    async def pay(self) -> None:
        """Give back what is owed now.

        Raises:
            Unavailable: Redis did not answer; the rest is still owed.
        """
        for some in chunks(list(self._owed.items()), _CALLS_AT_ONCE):
            await _all(self._pay(debt, connection) for connection, debt in some)

    async def _pay(self, debt: _Debt, connection: str) -> None:
        answer = self._begin(connection, debt)
        await answer
        self._settle(connection, debt, answer)


async def _all(calls: Iterable[Coroutine[None, None, None]]) -> int:
    """Make the calls together; returns how many failed.

    One user's trouble is no reason to leave the others' leases to run out.

    Raises:
        Unavailable: none of them succeeded, so that the next would not either.
    """
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [each for each in outcomes if each is not None]
    for each in failures:
        if len(failures) == len(outcomes) or not isinstance(each, Unavailable):
            raise each
    if failures:
        log.warning("lease_calls_failed count=%d reason=%s", len(failures), failures[0])
    return len(failures)
