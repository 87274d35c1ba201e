"""A node hearing itself through Redis.

A pub/sub connection can go silent without an error: clients stay connected, publishes succeed, nothing is
delivered and every check is green. So a node is ready only while it hears its own probe, and a connection
over which nothing comes although Redis took the probe is made anew.
"""

from __future__ import annotations

import logging
from typing import Final

from gateway.backplane.batching import Batcher
from gateway.backplane.subscriber import Subscriber
from gateway.node.pausing import Pause
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.errors import Unavailable
from publisher.exchange import Call

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
        self, subscriber: Subscriber, batcher: Batcher, channel: str, stats: Stats, clock: Clock
    ) -> None:
        self._subscriber = subscriber
        self._batcher = batcher
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
            await self._batcher.call(Call(("PUBLISH", self._channel, b"")))
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
