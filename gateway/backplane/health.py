"""Whether this node and Redis are well: the node's lease, and a probe that the node hears itself.

The node's own lease, far shorter than those of its users' places.

While it is renewed the node counts as alive, to the others and to itself. The others drop the places of
a node that let it run out, so a node that finds its own lease broken (it was frozen, or Redis has lost
its data) first becomes alive again and then looks after its places, in this order.

A node hearing itself through Redis.

A pub/sub connection can go silent without an error: clients stay connected, publishes succeed, nothing is
delivered and every check is green. So a node is ready only while it hears its own probe, and a connection
over which nothing comes although Redis took the probe is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.backplane.pubsub import Subscriber
from gateway.core.timing import Backoff
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.node.tasks import Pause
from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Pipeline

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
        pipeline: Pipeline,
        keys: Keys,
        node: str,
        lease: float,
        returned: Callable[[], None],
        jitter: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
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
        held = await self._pipeline.call(
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
            await self._pipeline.call(Call(("ZREM", self._keys.nodes, self._node)))
        except Unavailable as error:
            log.warning("node_unlisted reason=%s", error.reason)


log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 0.5
DEADLINE_SECONDS: Final = 2.0
"""Without its probe for so long a node is not ready."""
PATIENCE_SECONDS: Final = 2.0
"""So long Redis may have taken a probe while its connection brings nothing at all."""
_PATIENCE_AFTER_TROUBLE_SECONDS: Final = 0.5
_STALL_SECONDS: Final = 0.25


class Probe:
    """Publishes to a channel of the node's own, and listens.

    Args:
        channel: the pub/sub channel (``Keys.probe``).
    """

    def __init__(
        self, subscriber: Subscriber, pipeline: Pipeline, channel: str, stats: Stats, clock: Clock
    ) -> None:
        self._subscriber = subscriber
        self._pipeline = pipeline
        self._channel = channel
        self._stats = stats
        self._clock = clock
        self._pause = Pause()
        self._heard_at = float("-inf")
        # When Redis took the first of the probes that were not heard since, and what had come by then.
        self._unheard_since: float | None = None
        self._received: int | None = None
        self._patience = PATIENCE_SECONDS

    @property
    def heard(self) -> bool:
        """Whether the node has heard itself a moment ago."""
        return self._clock() - self._heard_at <= DEADLINE_SECONDS

    def doubt(self) -> None:
        """Probe at once: what was heard so far came over another connection."""
        self._heard_at = float("-inf")
        self._unheard_since = None
        self._pause.cut()

    async def run(self) -> None:
        """Probe until cancelled."""
        await self._subscriber.listen(self._channel, self._hear)
        while True:
            await self._publish()
            due_at = self._clock() + INTERVAL_SECONDS
            await self._pause(INTERVAL_SECONDS)
            self._judge(stalled=self._clock() - due_at > _STALL_SECONDS)

    async def _publish(self) -> None:
        asked_at = self._clock()
        try:
            await self._pipeline.call(Call(("PUBLISH", self._channel, b"")))
        except Unavailable:
            # The beat tells of a Redis that does not answer. A connection that outlives the trouble
            # may be one to a Redis, or over a way, that is no more.
            self._patience = _PATIENCE_AFTER_TROUBLE_SECONDS
            return
        if self._heard_at < asked_at and self._unheard_since is None:
            self._await_echo()

    def _await_echo(self) -> None:
        self._unheard_since = self._clock()
        self._received = self._subscriber.received

    def _hear(self, _payload: bytes) -> None:
        self._heard_at = self._clock()
        self._unheard_since = None
        self._patience = PATIENCE_SECONDS

    def _judge(self, *, stalled: bool) -> None:
        """Give up a connection that is silent, but not for the node's own standing still."""
        if self._unheard_since is None:
            return
        received = self._subscriber.received
        if stalled or received != self._received:
            self._await_echo()  # what the probe waits behind is still coming
            return
        silent = self._clock() - self._unheard_since
        if silent >= self._patience and received is not None:
            log.warning("probe_unheard seconds=%.1f", silent)
            self._stats.probes_unheard += 1
            self._unheard_since = None
            self._subscriber.rebuild()
