"""Tells backends which messages their channels' owners have not confirmed in time. Of all nodes one looks at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.core.log_limit import FirstTimes
from gateway.node.ports import Clock
from publisher.contract import unconfirmed
from publisher.contract.calls import Call, Reply
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
_MOST: Final = 1_000
"""Channels that are being looked at. While there are so many no others are begun."""
_REST_SECONDS: Final = 3.0
"""When a server is back, the nodes first write what was confirmed meanwhile."""
_AGAIN_SECONDS: Final = 60.0
"""What Redis refuses for good is tried again then: rights may be given, and nothing is left untold."""


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
        clock: Clock,
        wall_clock: Callable[[], float],
        servers: Servers = ONE,
    ) -> None:
        self._pipeline = pipeline
        self._servers = servers
        self._telling = telling
        self._after = after
        self._clock = clock
        self._wall_clock = wall_clock
        self._take = unconfirmed.take(
            self._keys, telling.node, _LEASE_SECONDS, _LOOK_SECONDS, _AT_ONCE, after
        )
        self._under_way: set[str] = set()
        self._room = asyncio.Event()
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
        """Look and tell until cancelled."""
        async with asyncio.TaskGroup() as looking:
            while True:
                pause = _LOOK_SECONDS
                with contextlib.suppress(Unavailable):
                    pause = await self._turn(looking)
                await asyncio.sleep(pause)

    async def _turn(self, looking: asyncio.TaskGroup) -> float:
        """Begin to look at what is due; returns the seconds until the next look."""
        if len(self._under_way) >= _MOST:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._room.wait()
        pause, taken = unconfirmed.parse_taken(await self._ask(self._take))
        if not taken:
            self._put_off.clear()  # another node does it, or what was put off is no more
        begun = 0
        for channel, first in taken:
            if self._may_begin(channel):
                self._under_way.add(channel)
                looking.create_task(self._look(channel, first))
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
        busy = channel in self._under_way or len(self._under_way) >= _MOST
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
        except Rejected as error:
            self._put_off[channel] = self._clock() + _AGAIN_SECONDS
            if self._refused.admit(channel):
                log.warning("unconfirmed_refused channel=%s reason=%s", channel, error.reason)
        except Unavailable:
            pass
        finally:
            self._under_way.discard(channel)
            self._room.set()

    async def _ask(self, call: Call) -> Reply:
        try:
            return await self._pipeline.call(call)
        except Unavailable as error:
            if error.retryable:
                self._rest(str(call.key))
            raise
