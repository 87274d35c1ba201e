"""The places that users' connections hold, counted across the cluster.

A place is a lease in the user's sorted set. A node has a lease of its own, far shorter: when a user
is at the limit, places held through a node that is gone are dropped and the acquire is tried once
more, so that a crash blocks nobody for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.backplane.batching import Batcher
from gateway.core.chunks import chunks
from publisher import scripts
from publisher.errors import Unavailable
from publisher.exchange import Call
from publisher.keys import Keys

log = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3
_RETRY_SECONDS: Final = 0.5
_DEAD_NODE_REMEMBERED_MS: Final = 60_000
_RENEWALS_AT_ONCE: Final = 200


class Leases:
    """Takes, renews and gives back places.

    Args:
        limit: connections a user may hold.
        lease: seconds a place is held without renewal.
        node_lease: seconds after which a silent node counts as gone.
        lost: told the id of a connection whose place is gone and could not be taken again.
    """

    def __init__(
        self,
        batcher: Batcher,
        keys: Keys,
        node: str,
        limit: int,
        lease: float,
        node_lease: float,
        lost: Callable[[str], None],
    ) -> None:
        self._batcher = batcher
        self._keys = keys
        self._node = node
        self._limit = limit
        self._lease = lease
        self._node_lease = node_lease
        self._lost = lost
        self._held: dict[str, str] = {}
        self._owed: dict[str, str] = {}
        self.alive = False

    # -- places -------------------------------------------------------------------------------

    async def acquire(self, user: str, connection: str) -> bool:
        """Take a place for a connection; ``False`` when the user holds all they may.

        Raises:
            Unavailable: Redis did not answer.
        """
        try:
            holders = await self._acquire(user, connection)
            if holders and await self._drop_dead(user, holders):
                holders = await self._acquire(user, connection)
        except BaseException:
            # Redis may take the place all the same, now or when it wakes up.
            self._owed[connection] = user
            raise
        if holders:
            self._held.pop(connection, None)
        else:
            self._held[connection] = user
        return not holders

    async def release(self, user: str, connection: str) -> None:
        """Give a place back, at once if Redis answers, else as soon as it does again."""
        if self._held.pop(connection, None) is not None:
            self._owed[connection] = user
        if connection in self._owed:
            try:
                await self._give_back(connection, user)
            except Unavailable as error:
                log.warning("lease_unreleased connection=%s reason=%s", connection, error.reason)

    async def _give_back(self, connection: str, user: str) -> None:
        await self._batcher.call(
            Call(("ZREM", self._keys.connections(user), self._member(connection)))
        )
        self._owed.pop(connection, None)

    def _member(self, connection: str) -> str:
        return f"{self._node}/{connection}"

    async def _acquire(self, user: str, connection: str) -> list[bytes]:
        holders: list[bytes] = await self._batcher.call(
            Call.run(
                scripts.ACQUIRE,
                [self._keys.connections(user)],
                self._member(connection),
                self._limit,
                round(self._lease * 1000),
            )
        )
        return holders

    async def _drop_dead(self, user: str, holders: list[bytes]) -> bool:
        living = set(await self._batcher.call(Call.run(scripts.LIVE_NODES, [self._keys.nodes])))
        dead = [member for member in holders if member.rpartition(b"/")[0] not in living]
        if dead:
            await self._batcher.call(Call(("ZREM", self._keys.connections(user), *dead)))
            log.info("leases_dropped user=%r count=%d", user, len(dead))
        return bool(dead)

    # -- keeping them -------------------------------------------------------------------------

    async def beat(self) -> None:
        """Renew the node's own lease.

        Raises:
            Unavailable: Redis did not answer.
        """
        await self._batcher.call(
            Call.run(
                scripts.BEAT,
                [self._keys.nodes],
                self._node,
                round(self._node_lease * 1000),
                _DEAD_NODE_REMEMBERED_MS,
            )
        )

    async def run_beat(self) -> None:
        """Keep the node's lease until cancelled; ``alive`` tells whether it is held."""
        while True:
            trouble = await self._trouble_with_beat()
            if trouble and self.alive:
                log.warning("redis_lost reason=%s", trouble)
            elif not trouble and not self.alive:
                log.info("redis_reached")
            self.alive = not trouble
            pause = self._node_lease / _RENEWALS_PER_LEASE if self.alive else _RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _trouble_with_beat(self) -> str:
        try:
            await self.beat()
            for some in chunks(list(self._owed.items()), _RENEWALS_AT_ONCE):
                await asyncio.gather(*(self._give_back(*each) for each in some))
        except Unavailable as error:
            return error.reason or "unavailable"
        return ""

    async def run_renewal(self) -> None:
        """Keep the connections' leases until cancelled."""
        while True:
            await asyncio.sleep(self._lease / _RENEWALS_PER_LEASE)
            try:
                await self.renew()
            except Unavailable as error:
                log.warning("leases_unrenewed count=%d reason=%s", len(self._held), error.reason)

    async def renew(self) -> None:
        """Renew all places; one that was lost meanwhile is taken again, or reported.

        Raises:
            Unavailable: Redis did not answer.
        """
        by_user: dict[str, list[str]] = {}
        for connection, user in self._held.items():
            by_user.setdefault(user, []).append(connection)
        failures: list[BaseException] = []
        for some in chunks(by_user.items(), _RENEWALS_AT_ONCE):
            renewals = (self._renew(user, held) for user, held in some)
            outcomes = await asyncio.gather(*renewals, return_exceptions=True)
            failures += [each for each in outcomes if each is not None]
        # One user's trouble is no reason to leave the others' leases to run out.
        if failures:
            raise failures[0]

    async def _renew(self, user: str, connections: list[str]) -> None:
        lost = await self._batcher.call(
            Call.run(
                scripts.RENEW,
                [self._keys.connections(user)],
                round(self._lease * 1000),
                *map(self._member, connections),
            )
        )
        for member in lost:
            connection = member.decode().rpartition("/")[2]
            if connection in self._held and not await self.acquire(user, connection):
                self._lost(connection)

    async def leave(self) -> None:
        """Take the node off the list; its places have been given back."""
        try:
            await self._batcher.call(Call(("ZREM", self._keys.nodes, self._node)))
        except Unavailable as error:
            log.warning("node_unlisted reason=%s", error.reason)
