"""A node hearing itself through Redis.

A pub/sub connection can go silent without an error: clients stay connected, publishes succeed, nothing is
delivered and every check is green. So a node is ready only while it hears its own probe, and a connection
on which it does not is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from gateway.backplane.batching import Batcher
from gateway.backplane.subscriber import Subscriber
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.errors import Unavailable
from publisher.exchange import Call

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
DEADLINE_SECONDS: Final = 2.5
"""Without its probe for so long a node is not ready."""


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
        self._heard_at = float("-inf")
        self._patient_since = float("-inf")

    @property
    def heard(self) -> bool:
        """Whether the node has heard itself a moment ago."""
        return self._clock() - self._heard_at <= DEADLINE_SECONDS

    async def run(self) -> None:
        """Probe until cancelled."""
        await self._subscriber.listen(self._channel, self._hear)
        self._patient_since = self._clock()
        while True:
            # The beat tells of a Redis that does not answer; here only hearing counts.
            with contextlib.suppress(Unavailable):
                await self._batcher.call(Call(("PUBLISH", self._channel, b"")))
            await asyncio.sleep(INTERVAL_SECONDS)
            self._judge()

    def _hear(self, _payload: bytes) -> None:
        self._heard_at = self._clock()

    def _judge(self) -> None:
        now = self._clock()
        silent = now - max(self._heard_at, self._patient_since)
        if silent > DEADLINE_SECONDS and self._subscriber.connected:
            log.warning("probe_unheard seconds=%.1f", silent)
            self._stats.probes_unheard += 1
            self._patient_since = now
            self._subscriber.rebuild()
