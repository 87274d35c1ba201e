"""Hearing from the sentinels that another server has become the primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.core.timing import Backoff
from gateway.node.tasks import Tasks
from publisher.transport.connection import Reader, opened
from publisher.transport.failures import FAILURES
from publisher.transport.primary import LoopPrimary, OneServer
from publisher.transport.resp import pack
from publisher.transport.sentinel import ASKED_AGAIN_SECONDS, SENTINEL_SECONDS, SWITCHED, Sentinels

log = logging.getLogger(__name__)


class SentinelWatch:
    """Listens to every sentinel, so that the first that knows is heard, and asks one of them regularly besides: a
    connection that nothing is said on may be one to nowhere. Does nothing where there are no sentinels.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        sentinels: Sentinels | None,
        primary: LoopPrimary | OneServer,
        tasks: Tasks,
        jitter: Callable[[], float],
    ) -> None:
        self._sentinels = sentinels
        self._primary = primary
        self._tasks = tasks
        self._jitter = jitter
        self._refused: set[int] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        primary = self._primary
        if self._sentinels is None or isinstance(primary, OneServer):
            return
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._sentinels.sentinels)):
                group.create_task(self._listen(self._sentinels, number, primary))
            while True:
                await primary.refresh()
                await asyncio.sleep(ASKED_AGAIN_SECONDS)

    async def _listen(self, sentinels: Sentinels, number: int, primary: LoopPrimary) -> None:
        server = OneServer(sentinels.sentinels[number])
        backoff = Backoff(self._jitter)
        while True:
            with contextlib.suppress(*FAILURES):
                async with opened(server, SENTINEL_SECONDS) as transport:
                    reader = Reader(transport, partial(self._hear, sentinels, number, primary))
                    reader.write(pack([("SUBSCRIBE", SWITCHED)]))
                    # What it has told while nobody listened.
                    await primary.ask(number)
                    backoff.reset()
                    await reader.lost
            await asyncio.sleep(backoff.next())

    def _hear(self, sentinels: Sentinels, number: int, primary: LoopPrimary, reply: Any) -> None:
        if type(reply) is not list:
            if number not in self._refused:
                self._refused.add(number)
                address = sentinels.sentinels[number].address
                log.warning("sentinel_refused address=%s reason=%s", address, reply)
        elif reply[0] == b"message" and reply[2].split()[:1] == [sentinels.name.encode()]:
            self._tasks.spawn(_ask(primary, number), "ask a sentinel")


async def _ask(primary: LoopPrimary, number: int) -> None:
    with contextlib.suppress(*FAILURES):
        await primary.ask(number)
