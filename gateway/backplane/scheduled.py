"""Publishes what backends have scheduled. Of all nodes one does so at a time: the one that has said so first, as long as it looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.backplane.leased_work import AGAIN_SECONDS, LEASE_SECONDS, LOOK_SECONDS, LeasedWork
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from publisher.contract import scripts, unconfirmed
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.contract.scheduling import Planned
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_AT_ONCE: Final = 100
_BYTES_AT_ONCE: Final = 1024 * 1024

_UNFINISHED_SECONDS: Final = 1.0
"""What was taken and is not removed then is handed out again: its answer was lost, or its part of Redis is away."""


class Scheduler:
    """Looks for messages that are due, and publishes them.

    Each is taken first, so that nobody cancels it any more, then published under a key, then removed. Whatever ends in between is done
    again by this node or by another, and the key lets the log have the message once. Those whose part of Redis does not answer hold up
    no others.
    """

    def __init__(self, pipeline: Calls, keys: Keys, node: str, stats: Stats, clock: Clock) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._stats = stats
        self._clock = clock
        self._work = LeasedWork(pipeline, keys.scheduled_taker, node, self._turn)
        # When those were taken first, and when last, that are not published yet, as far as is known.
        self._taken: dict[str, tuple[float, float]] = {}
        # When the first is due that waits, as far as this node is told.
        self._due: float | None = None
        self.look = Call.run(
            scripts.DUE,
            [
                keys.scheduled,
                keys.scheduled_publishing,
                keys.scheduled_taker,
                keys.scheduled_message(""),
            ],
            node,
            int(LEASE_SECONDS * 1000),
            _AT_ONCE,
            int(LOOK_SECONDS * 1000),
            int(_UNFINISHED_SECONDS * 1000),
            _BYTES_AT_ONCE,
        )

    async def run(self) -> None:
        """Look and publish until closed or cancelled."""
        await self._work.run()

    async def close(self) -> None:
        """Publish what was taken, and let another node take over at once.

        Raises:
            Unavailable: Redis did not answer.
        """
        await self._work.close()

    async def _turn(self) -> float:
        """Begin to publish what is due; returns the seconds until the next look."""
        try:
            milliseconds, *told = await self._pipeline.call(self.look)
            count, late, left, taken = told or (0, None, [], [])
            self._note([*left, *taken[::2]])
            found = await self._read_again([name.decode() for name in left])
        except Unavailable as error:
            self._stats.scheduled_refused += isinstance(error, Rejected)
            # What is known becomes late while Redis is silent.
            self._tell_late()
            raise
        found += zip(map(bytes.decode, taken[::2]), taken[1::2], strict=True)
        for name, kept in found:
            self._work.begin(name, self._publish(name, kept), len(kept or b""))
        self._stats.scheduled_messages = count
        self._due = None if late is None else self._clock() - late / 1000
        if not told:
            self._taken.clear()
        elif milliseconds:
            self._drop_what_is_done()
        self._tell_late()
        return float(milliseconds) / 1000

    async def _read_again(self, left: Sequence[str]) -> list[tuple[str, bytes | None]]:
        """The messages that were left unfinished and are not under way here."""
        names = [name for name in left if name not in self._work]
        reading = [Call(("GET", self._keys.scheduled_message(name))) for name in names]
        kept = await asyncio.gather(*map(self._pipeline.begin, reading))
        return list(zip(names, kept, strict=True))

    def _note(self, taken: Iterable[bytes]) -> None:
        now = self._clock()
        for name in map(bytes.decode, taken):
            self._taken[name] = self._taken.get(name, (now, now))[0], now

    def _drop_what_is_done(self) -> None:
        """All that is left was handed out again: what was not was published, though the answer was lost."""
        over = self._clock() - 2 * LEASE_SECONDS
        for name in [name for name, (_, last) in self._taken.items() if last < over]:
            if name not in self._work:
                del self._taken[name]

    def _tell_late(self) -> None:
        """Note how late the first message is that this node knows of; 0 where another one publishes."""
        now = self._clock()
        first = min((first for first, _ in self._taken.values()), default=now)
        waits = now if self._due is None else self._due
        self._stats.scheduled_late = max(0.0, now - min(first, waits))

    async def _publish(self, identifier: str, kept: bytes | None) -> None:
        """Publish one message and remove it. What fails is handed out again."""
        channel = None
        try:
            if kept is not None:
                planned = Planned.decode(kept)
                channel = planned.channel
                await self._send(planned)
            await self._end(identifier)
        except ValueError as error:
            # A later version may have written it, and another node may be able to read it.
            self._stats.scheduled_refused += 1
            log.warning("scheduled_unreadable id=%s reason=%r", identifier, str(error))
            await self._postpone(identifier)
        except Rejected as error:
            self._stats.scheduled_refused += 1
            log.warning(
                "scheduled_refused id=%s channel=%s reason=%r", identifier, channel, error.reason
            )
            await self._postpone(identifier)
        except Unavailable:
            pass

    async def _send(self, planned: Planned) -> None:
        reply = await self._pipeline.call(planned.call(self._keys))
        if self._keys.sharded and unconfirmed.awaited(planned.how):
            published = {planned.channel: int(reply.partition(b":")[0])}
            await self._pipeline.call(unconfirmed.note(self._keys, published))

    async def _end(self, identifier: str) -> None:
        """Remove it; a call that fails leaves it among those that are being published, to be done again."""
        await self._pipeline.call(self.finish(identifier))
        self._taken.pop(identifier, None)

    async def _postpone(self, identifier: str) -> None:
        self._taken.pop(identifier, None)
        with contextlib.suppress(Unavailable):
            await self._pipeline.call(self.postpone(identifier))

    def finish(self, identifier: str) -> Call:
        """Remove a message that was published."""
        names = [self._keys.scheduled_message(identifier), self._keys.scheduled_publishing]
        return Call.run(scripts.FINISH_SCHEDULED, names, identifier)

    def postpone(self, identifier: str) -> Call:
        """Let a message wait that cannot be published, by the clock of Redis: this node's may be wrong."""
        return Call.run(
            scripts.POSTPONE,
            [self._keys.scheduled, self._keys.scheduled_publishing],
            identifier,
            int(AGAIN_SECONDS * 1000),
        )
