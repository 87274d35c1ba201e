"""Publishes what backends have scheduled. Of all nodes one does so at a time: the one that has said so first, as long as it looks."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from publisher.contract import scripts
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
_AGAIN_SECONDS: Final = 60.0
"""What Redis refuses for good is tried again then: rights may be given, and a message is not thrown away."""


class Scheduler:
    """Looks for messages that are due, and publishes them.

    Each is taken first, so that nobody cancels it any more, then published under a key, then removed. Whatever ends in between is done
    again by this node or by another, and the key lets the log have the message once.
    """

    def __init__(self, pipeline: Calls, keys: Keys, node: str) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self.look = Call.run(
            scripts.DUE,
            [keys.scheduled, keys.scheduled_publishing, keys.scheduled_taker],
            node,
            int(LEASE_SECONDS * 1000),
            _AT_ONCE,
            int(LOOK_SECONDS * 1000),
        )

    async def run(self) -> None:
        """Look and publish until cancelled."""
        while True:
            try:
                pause = await self._turn()
            except Unavailable:
                pause = LOOK_SECONDS
            await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Publish what is due; returns the seconds until the next look."""
        milliseconds, *identifiers = await self._pipeline.call(self.look)
        names = [each.decode() for each in identifiers]
        messages = await asyncio.gather(
            *(
                self._pipeline.call(Call(("GET", self._keys.scheduled_message(each))))
                for each in names
            )
        )
        outcomes = await asyncio.gather(*map(self._publish, names, messages))
        return float(milliseconds) / 1000 if all(outcomes) else LOOK_SECONDS

    async def _publish(self, identifier: str, kept: bytes | None) -> bool:
        """Publish one message and remove it; returns whether Redis has answered."""
        try:
            if kept is not None:
                await self._pipeline.call(Planned.decode(kept).call(self._keys))
        except ValueError as error:
            # A later version may have written it, and another node may be able to read it.
            log.warning("scheduled_unreadable id=%s reason=%r", identifier, str(error))
            await self._postpone(identifier)
        except Rejected as error:
            log.warning("scheduled_refused id=%s reason=%r", identifier, error.reason)
            await self._postpone(identifier)
        except Unavailable:
            return False
        else:
            await self._end(identifier)
        return True

    async def _end(self, identifier: str) -> None:
        """Remove it; a call that fails leaves it among those that are being published, to be done again."""
        await self._pipeline.call(Call(("DEL", self._keys.scheduled_message(identifier))))
        await self._pipeline.call(Call(("ZREM", self._keys.scheduled_publishing, identifier)))

    async def _postpone(self, identifier: str) -> None:
        # By the clock of Redis, as everything that is due: this node's may be wrong.
        await self._pipeline.call(
            Call.run(
                scripts.POSTPONE,
                [self._keys.scheduled, self._keys.scheduled_publishing],
                identifier,
                int(_AGAIN_SECONDS * 1000),
            )
        )
