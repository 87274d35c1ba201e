"""The node's events on their way to Redis, and those of dead nodes, which can tell no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.events import EventLog
from gateway.node.ports import Clock
from publisher.contract import events
from publisher.contract.calls import Call, pairs_of
from publisher.contract.events import DISCONNECTED, Told
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_WRITTEN_SECONDS: Final = 0.2
_AT_ONCE: Final = 200
"""Events in a call of the script: Redis serves nobody else meanwhile."""
_RENEWALS_PER_LEASE: Final = 3
_LONGEST_RENEWAL_SECONDS: Final = 1.0


class _LeaseOver(Exception):
    """Others may have told of the end of all connections here: the lease is renewed before anything is written."""


class EventWriter:
    """Writes events, in batches and each once, and keeps the lease by which others know that this node tells its own.

    Args:
        lease: seconds after which others tell of the end of this node's connections.
        most: so many events the stream keeps, or a few more.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        node: str,
        event_log: EventLog,
        lease: float,
        most: int,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._node = node
        self._log = event_log
        self._lease = lease
        self._most = most
        self._clock = clock
        self._backoff = Backoff(jitter)
        self._one_at_a_time = asyncio.Lock()
        # A batch stays until Redis has confirmed it, and keeps its number.
        self._batch: list[Told] = []
        self._number = 0
        self._renewal_due = float("-inf")
        self._failing = False

    def recheck(self) -> None:
        """Compare what Redis knows of the connections here with them: it may have lost some."""
        self._log.incomplete = True
        self._renewal_due = float("-inf")

    async def run(self) -> None:
        """Write until cancelled; nothing to do where nobody has asked for events."""
        while self._log.kinds:
            try:
                async with self._one_at_a_time:
                    await self._renew()
                    await self._write_all()
            except _LeaseOver:
                self._renewal_due = float("-inf")
            except Unavailable as error:
                self._fail(error)
                await asyncio.sleep(self._backoff.next())
            else:
                self._failing = False
                self._backoff.reset()
                await asyncio.sleep(_WRITTEN_SECONDS)

    def _fail(self, error: Unavailable) -> None:
        if not self._failing:
            log.warning("events_unwritten reason=%s", error.reason)
        self._failing = True
        if not error.retryable and self._batch:
            # Redis would refuse it every time, and what is behind it would wait for ever.
            self._log.dropped(len(self._batch))
            self._batch = []
            # A part of it may have been written under this number.
            self._number += 1

    async def close(self) -> None:
        """Write what is left, and end the lease.

        Raises:
            Unavailable: Redis did not answer; when the lease has run out, others tell of what ended here.
        """
        if self._log.kinds:
            async with self._one_at_a_time:
                with contextlib.suppress(_LeaseOver):
                    await self._write_all()
                if self._log.follows:
                    await self._pipeline.call(events.leave(self._keys, self._node))

    # -- writing ------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        while self._batch or (taken := self._log.take(_AT_ONCE)):
            await self._write(self._batch or taken)

    async def _write(self, batch: list[Told]) -> None:
        self._batch = batch
        lease = self._lease if self._log.follows else None
        call = events.write(self._keys, self._node, self._number, self._most, batch, lease)
        if await self._pipeline.call(call) == events.LEASE_OVER:
            raise _LeaseOver
        self._batch = []
        self._number += 1

    # -- the connections that the events tell of ----------------------------------------------

    async def _renew(self) -> None:
        now = self._clock()
        if not self._log.follows or now < self._renewal_due:
            return
        reply = await self._pipeline.call(events.renew(self._keys, self._node, self._lease))
        held, dead = events.parse_renewal(reply)
        self._renewal_due = now + min(self._lease / _RENEWALS_PER_LEASE, _LONGEST_RENEWAL_SECONDS)
        if self._log.incomplete or not held:
            await self._compare()
        for node in dead:
            await self._end(node)

    async def _compare(self) -> None:
        """Tell of the connections here that Redis knows nothing of, and of the end of those that are no more."""
        self._log.incomplete = True  # until it is done
        while self._batch:  # it comes first, since a batch that has no answer keeps its number
            await self._write(self._batch)
        reply = await self._pipeline.call(Call(("HGETALL", self._keys.connected_at(self._node))))
        known = {
            each.decode(): user.decode()
            for each, user in pairs_of(reply)
            if not each.startswith(b"/")
        }
        present = self._log.present
        missing = [self._log.beginning(*each) for each in present.items() if each[0] not in known]
        over = [self._log.end(*each) for each in known.items() if each[0] not in present]
        self._log.incomplete = False
        try:
            for some in chunks(over + missing, _AT_ONCE):
                await self._write(list(some))
        except (Unavailable, _LeaseOver):
            self._log.incomplete = True
            raise

    async def _end(self, dead: str) -> None:
        log.info("events_of_dead_node node=%s", dead)
        tell = DISCONNECTED in self._log.kinds
        while await self._pipeline.call(events.end(self._keys, dead, self._most, tell=tell)):
            pass
