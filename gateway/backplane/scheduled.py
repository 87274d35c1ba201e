"""Publishes what backends have scheduled. Of all nodes one does so at a time: the one that has said so first, as long as it looks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from publisher.contract import scripts, unconfirmed
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.contract.scheduling import Planned
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 3.0
"""So long after a node has looked last, another one takes over."""

LOOK_SECONDS: Final = 0.8
"""A node looks so often, and when a message is due that it knows of: no message is published more than a second late."""

_AT_ONCE: Final = 16
_MOST: Final = 256
"""Messages that are being published. While there are so many no others are taken."""

_AGAIN_SECONDS: Final = 60.0
"""What Redis refuses for good is tried again then: rights may be given, and a message is not thrown away."""


class Scheduler:
    """Looks for messages that are due, and publishes them.

    Each is taken first, so that nobody cancels it any more, then published under a key, then removed. Whatever ends in between is done
    again by this node or by another, and the key lets the log have the message once. Those whose part of Redis does not answer hold up
    no others.
    """

    def __init__(self, pipeline: Calls, keys: Keys, node: str) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._under_way: set[str] = set()
        self.look = Call.run(
            scripts.DUE,
            [keys.scheduled, keys.scheduled_publishing, keys.scheduled_taker],
            node,
            int(LEASE_SECONDS * 1000),
            _AT_ONCE,
            int(LOOK_SECONDS * 1000),
            int(LEASE_SECONDS * 1000),
        )

    async def run(self) -> None:
        """Look and publish until cancelled."""
        async with asyncio.TaskGroup() as publishing:
            while True:
                pause = LOOK_SECONDS
                with contextlib.suppress(Unavailable):
                    pause = await self._turn(publishing)
                await asyncio.sleep(pause)

    async def _turn(self, publishing: asyncio.TaskGroup) -> float:
        """Begin to publish what is due; returns the seconds until the next look."""
        if len(self._under_way) >= _MOST:
            return LOOK_SECONDS
        milliseconds, *identifiers = await self._pipeline.call(self.look)
        names = [name for each in identifiers if (name := each.decode()) not in self._under_way]
        messages = await asyncio.gather(
            *(
                self._pipeline.call(Call(("GET", self._keys.scheduled_message(each))))
                for each in names
            )
        )
        for name, kept in zip(names, messages, strict=True):
            self._under_way.add(name)
            publishing.create_task(self._publish(name, kept))
        return float(milliseconds) / 1000

    async def _publish(self, identifier: str, kept: bytes | None) -> None:
        """Publish one message and remove it. What fails is handed out again."""
        try:
            if kept is not None:
                await self._send(Planned.decode(kept))
            await self._end(identifier)
        except ValueError as error:
            # A later version may have written it, and another node may be able to read it.
            log.warning("scheduled_unreadable id=%s reason=%r", identifier, str(error))
            await self._postpone(identifier)
        except Rejected as error:
            log.warning("scheduled_refused id=%s reason=%r", identifier, error.reason)
            await self._postpone(identifier)
        except Unavailable:
            pass
        finally:
            self._under_way.discard(identifier)

    async def _send(self, planned: Planned) -> None:
        reply = await self._pipeline.call(planned.call(self._keys))
        if self._keys.sharded and unconfirmed.awaited(planned.how):
            published = {planned.channel: int(reply.partition(b":")[0])}
            await self._pipeline.call(unconfirmed.note(self._keys, published))

    async def _end(self, identifier: str) -> None:
        """Remove it; a call that fails leaves it among those that are being published, to be done again."""
        await self._pipeline.call(Call(("DEL", self._keys.scheduled_message(identifier))))
        await self._pipeline.call(Call(("ZREM", self._keys.scheduled_publishing, identifier)))

    async def _postpone(self, identifier: str) -> None:
        with contextlib.suppress(Unavailable):
            await self._pipeline.call(self.postpone(identifier))

    def postpone(self, identifier: str) -> Call:
        """Let a message wait that cannot be published, by the clock of Redis: this node's may be wrong."""
        return Call.run(
            scripts.POSTPONE,
            [self._keys.scheduled, self._keys.scheduled_publishing],
            identifier,
            int(_AGAIN_SECONDS * 1000),
        )
