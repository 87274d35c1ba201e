"""The node's own lease, far shorter than those of its users' places.

While it is renewed the node counts as alive, to the others and to itself. The others drop the places of
a node that let it run out, so a node that finds its own lease broken (it was frozen, or Redis has lost
its data) first becomes alive again and then looks after its places, in this order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.backplane.batching import Batcher
from gateway.node.pausing import Backoff, Pause
from publisher import scripts
from publisher.errors import Unavailable
from publisher.exchange import Call
from publisher.keys import Keys

log = logging.getLogger(__name__)

_BEATS_PER_LEASE: Final = 3
_DEAD_NODE_REMEMBERED_MS: Final = 60_000
_MISSED_BEATS: Final = 1.5
"""Without any node's beat for so many intervals it was Redis that was away."""
_GRACE_MS: Final = 3_000
"""A node that lives is back within so long after Redis answers again."""


class Beat:
    """Renews the node's lease.

    Args:
        lease: seconds after which a silent node counts as gone.
        returned: told when Redis answers again after it had not, or may have lost what it knew.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        batcher: Batcher,
        keys: Keys,
        node: str,
        lease: float,
        returned: Callable[[], None],
        jitter: Callable[[], float],
    ) -> None:
        self._batcher = batcher
        self._keys = keys
        self._node = node
        self._lease = lease
        self._returned = returned
        self._backoff = Backoff(jitter)
        self._pause = Pause()
        self._doubts = 0
        self._failing = False
        self.alive = False

    def doubt(self) -> None:
        """Beat at once; until that has succeeded the node does not count as alive.

        What answered before need not be what answers now: it may have been restarted, be loading its
        data still, or have lost them.
        """
        self._doubts += 1
        self.alive = False
        self._pause.cut()

    async def run(self) -> None:
        """Beat until cancelled; ``alive`` tells whether the lease is held."""
        while True:
            doubts = self._doubts
            try:
                held = await self._beat()
            except Unavailable as error:
                self._fail(error)
                await self._pause(self._backoff.next())
                continue
            if doubts == self._doubts:
                self._succeed(held)
                await self._pause(self._lease / _BEATS_PER_LEASE)

    async def _beat(self) -> bool:
        """Renew the lease; ``False`` when it had run out or was not there.

        Raises:
            Unavailable: Redis did not answer.
        """
        held = await self._batcher.call(
            Call.run(
                scripts.BEAT,
                [self._keys.nodes],
                self._node,
                round(self._lease * 1000),
                _DEAD_NODE_REMEMBERED_MS,
                round(self._lease * 1000 / _BEATS_PER_LEASE * _MISSED_BEATS),
                _GRACE_MS,
            )
        )
        return bool(held)

    def _fail(self, error: Unavailable) -> None:
        if not self._failing:
            log.warning("redis_lost reason=%s", error.reason or "unavailable")
        self._failing = True
        self.alive = False

    def _succeed(self, held: bool) -> None:
        self._backoff.reset()
        self._failing = False
        if self.alive and held:
            return
        if self.alive:
            log.warning("node_lease_broken")
        else:
            log.info("redis_reached")
        self._returned()
        self.alive = True

    async def leave(self) -> None:
        """Take the node off the list; its places have been given back."""
        try:
            await self._batcher.call(Call(("ZREM", self._keys.nodes, self._node)))
        except Unavailable as error:
            log.warning("node_unlisted reason=%s", error.reason)
