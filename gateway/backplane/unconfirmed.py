"""Tells backends which messages their channels' owners have not confirmed in time. Of all nodes one looks at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from gateway.backplane.leased_work import AGAIN_SECONDS, LEASE_SECONDS, LOOK_SECONDS, LeasedWork
from gateway.backplane.servers import ONE, Servers
from gateway.core.log_limit import FirstTimes
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.contract import unconfirmed
from publisher.contract.calls import Call, Reply
from publisher.contract.keys import Keys
from publisher.contract.unconfirmed import Found, Telling
from publisher.errors import InvalidChannel, Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS: Final = 0.2
"""The servers of a cluster have clocks of their own, so a message may not be due yet by the clock that has given its id."""
_AT_ONCE: Final = 64
_REST_SECONDS: Final = 3.0
"""When a server is back, the nodes first write what was confirmed meanwhile."""


class UnconfirmedWatch:
    """Looks for messages that are due, and tells of those that are unconfirmed.

    Each channel is taken first, then looked at, then told of. Whatever ends in between is done again by this node or by another, and
    Redis tells of each message once. Those whose part of Redis does not answer hold up no others.

    Args:
        after: seconds in which a message is to be confirmed.
        wall_clock: seconds since 1970.
        servers: of one that is away the channels are left for later.
    """

    def __init__(
        self,
        pipeline: Calls,
        telling: Telling,
        after: float,
        stats: Stats,
        clock: Clock,
        wall_clock: Callable[[], float],
        servers: Servers = ONE,
    ) -> None:
        self._pipeline = pipeline
        self._servers = servers
        self._telling = telling
        self._after = after
        self._stats = stats
        self._clock = clock
        self._wall_clock = wall_clock
        self._take = unconfirmed.take(
            self._keys, telling.node, LEASE_SECONDS, LOOK_SECONDS, _AT_ONCE, after
        )
        self._work = LeasedWork(pipeline, self._keys.looker, telling.node, self._turn)
        # Of each server that was in trouble a key, by which to know who has taken its place, and until when it is left alone.
        self._rests: dict[str, tuple[str, float]] = {}
        # Channels that Redis refuses to be looked at, and until when each is left alone.
        self._put_off: dict[str, float] = {}
        # Each of those is told once.
        self._refused: FirstTimes[str] = FirstTimes()

    @property
    def _keys(self) -> Keys:
        return self._telling.keys

    async def run(self) -> None:
        """Look and tell until closed or cancelled."""
        await self._work.run()

    async def close(self) -> None:
        """Tell of what was taken, and let another node take over at once.

        Raises:
            Unavailable: Redis did not answer.
        """
        await self._work.close()

    async def _turn(self) -> float:
        """Begin to look at what is due; returns the seconds until the next look."""
        try:
            pause, taken = unconfirmed.parse_taken(await self._ask(self._take))
        except Rejected:
            self._stats.unconfirmed_refused += 1
            raise
        if not taken:
            self._put_off.clear()  # another node does it, or what was put off is no more
        begun = 0
        for channel, first in taken:
            if self._may_begin(channel):
                self._work.begin(channel, self._look(channel, first))
                begun += 1
        if not pause or begun >= _AT_ONCE:
            return 0.0  # as many as can be: there may be more
        # Others may have been left unfinished beside those.
        return _SHORTEST_PAUSE_SECONDS if begun else max(_SHORTEST_PAUSE_SECONDS, pause)

    def _may_begin(self, channel: str) -> bool:
        key = self._keys.log(channel)
        if self._servers.away(key):
            self._rest(key)
        until = max(self._rests_until(self._servers.of(key)), self._put_off.get(channel, 0.0))
        busy = channel in self._work or self._work.full
        return not busy and until <= self._clock()

    def _rest(self, key: str) -> None:
        self._rests[self._servers.of(key)] = key, self._clock() + _REST_SECONDS

    def _rests_until(self, server: str) -> float:
        rests = (until for key, until in self._rests.values() if self._servers.of(key) == server)
        return max(rests, default=0.0)

    async def _look(self, channel: str, first: int) -> None:
        """Look at one channel and tell. What fails is handed out again."""
        try:
            found = Found.parse(
                await self._ask(unconfirmed.find(self._keys, channel, first, self._after))
            )
            now = int(self._wall_clock() * 1000)
            await self._ask(self._telling.call(channel, first, found, self._after, now))
            self._put_off.pop(channel, None)
        except InvalidChannel as error:
            self._put_off_for_long(channel, str(error))  # a later version may have written it
        except Rejected as error:
            self._put_off_for_long(channel, error.reason)
        except Unavailable:
            pass

    def _put_off_for_long(self, channel: str, reason: str) -> None:
        self._stats.unconfirmed_refused += 1
        self._put_off[channel] = self._clock() + AGAIN_SECONDS
        if self._refused.admit(channel):
            log.warning("unconfirmed_refused channel=%s reason=%r", channel, reason)

    async def _ask(self, call: Call) -> Reply:
        try:
            return await self._pipeline.call(call)
        except Unavailable as error:
            if error.retryable:
                self._rest(str(call.key))
            raise
