"""Tells backends which messages their channels' owners have not confirmed in time. Of all nodes one looks at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.core.log_limit import FirstTimes
from publisher.contract import unconfirmed
from publisher.contract.keys import Keys
from publisher.contract.unconfirmed import Found, Telling
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_LEASE_SECONDS: Final = 3.0
"""So long after a node has looked last, another one takes over."""
_LOOK_SECONDS: Final = 0.8
_SHORTEST_PAUSE_SECONDS: Final = 0.2
"""The servers of a cluster have clocks of their own, so a message may not be due yet by the clock that has given its id."""
_AT_ONCE: Final = 64
_AFTER_TROUBLE_SECONDS: Final = 3.0
"""When Redis is back, the nodes first write what was confirmed meanwhile."""


class UnconfirmedWatch:
    """Looks for messages that are due, and tells of those that are unconfirmed.

    Each channel is taken first, then looked at, then told of. Whatever ends in between is done again by this node or by another, and
    Redis tells of each message once.

    Args:
        after: seconds in which a message is to be confirmed.
        servers: of one that is away the channels are left for later.
    """

    def __init__(
        self, pipeline: Calls, telling: Telling, after: float, servers: Servers = ONE
    ) -> None:
        self._pipeline = pipeline
        self._away = servers.away
        self._telling = telling
        self._after = after
        self._take = unconfirmed.take(
            self._keys, telling.node, _LEASE_SECONDS, _LOOK_SECONDS, _AT_ONCE, after
        )
        # Channels that Redis refuses to be looked at: each is told once.
        self._refused: FirstTimes[str] = FirstTimes()

    @property
    def _keys(self) -> Keys:
        return self._telling.keys

    async def run(self) -> None:
        """Look and tell until cancelled."""
        while True:
            try:
                pause = await self._turn()
            except Unavailable:
                pause = _AFTER_TROUBLE_SECONDS
            await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Look at what is due; returns the seconds until the next look."""
        pause, taken = unconfirmed.parse_taken(await self._pipeline.call(self._take))
        if not all(await asyncio.gather(*(self._look(*each) for each in taken))):
            return _AFTER_TROUBLE_SECONDS
        return 0.0 if len(taken) >= _AT_ONCE else max(_SHORTEST_PAUSE_SECONDS, pause)

    async def _look(self, channel: str, first: int) -> bool:
        """Look at one channel and tell; returns whether Redis has answered. What fails is taken once more."""
        if self._away(self._keys.log(channel)):
            return False
        try:
            found = await self._find(channel, first)
            now = time.time_ns() // 1_000_000
            await self._pipeline.call(self._telling.call(channel, first, found, self._after, now))
        except Unavailable:
            return False
        return True

    async def _find(self, channel: str, first: int) -> Found:
        try:
            call = unconfirmed.find(self._keys, channel, first, self._after)
            return Found.parse(await self._pipeline.call(call))
        except Rejected as error:
            if self._refused.admit(channel):
                log.warning("unconfirmed_refused channel=%s reason=%s", channel, error.reason)
            return Found()
