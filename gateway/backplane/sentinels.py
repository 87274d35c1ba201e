"""Hearing from the sentinels that another server has become the primary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from gateway.core.timing import Backoff
from gateway.node.tasks import Tasks
from publisher.contract.calls import Command
from publisher.errors import Rejected, Unavailable
from publisher.transport.connection import Reader, Server, answers, opened
from publisher.transport.failures import FAILURES, meaning, unavailable
from publisher.transport.primary import LoopPrimary, OneServer
from publisher.transport.resp import pack
from publisher.transport.sentinel import ASKED_AGAIN_SECONDS, SENTINEL_SECONDS, SWITCHED, Sentinels

log = logging.getLogger(__name__)

_TOLD_AGAIN_SECONDS: Final = 60.0
"""So often the log says that the same sentinel does not tell what it should."""


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
        # When each may be told of again.
        self._tell_at: dict[int, float] = {}

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
            try:
                async with opened(server, SENTINEL_SECONDS) as transport:
                    reader = Reader(transport, partial(self._hear, sentinels, number, primary))
                    reader.write(pack(("SUBSCRIBE", SWITCHED)))
                    # What it has told while nobody listened.
                    await primary.ask(number)
                    backoff.reset()
                    await reader.lost
            except FAILURES as error:
                self._complain(sentinels, number, unavailable(error, maybe_sent=False))
            await asyncio.sleep(backoff.next())

    def _hear(self, sentinels: Sentinels, number: int, primary: LoopPrimary, reply: Any) -> None:
        if type(reply) is not list:
            self._complain(sentinels, number, meaning(reply))
        elif reply[0] == b"message" and reply[2].split()[:1] == [sentinels.name.encode()]:
            self._tasks.spawn(_ask(primary, number), "ask a sentinel")

    def _complain(self, sentinels: Sentinels, number: int, error: Unavailable) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._tell_at.get(number, now):
            return
        self._tell_at[number] = now + _TOLD_AGAIN_SECONDS
        address = sentinels.sentinels[number].address
        if isinstance(error, Rejected):
            log.warning("sentinel_refused address=%s reason=%s", address, error.reason)
        else:
            log.warning("sentinel_failed address=%s reason=%s", address, error.reason)


async def _ask(primary: LoopPrimary, number: int) -> None:
    with contextlib.suppress(*FAILURES):
        await primary.ask(number)


async def doubts_of(sentinels: Sentinels) -> list[str]:
    """What is wrong with sentinels, for ``gateway check``: a line for each that does not tell what it should."""
    servers = sentinels.sentinels
    found = await asyncio.gather(*(_doubt(sentinels, OneServer(each)) for each in servers))
    return [
        f"sentinel {each.address}: {why}" for each, why in zip(servers, found, strict=True) if why
    ]


async def _doubt(sentinels: Sentinels, server: Server) -> str:
    commands: list[Command] = [call.cached() for call in sentinels.question]
    commands.append(("SUBSCRIBE", SWITCHED))
    try:
        *known, listening = await answers(server, commands, SENTINEL_SECONDS)
        sentinels.read(known)
        if isinstance(listening, ResponseError):
            raise meaning(listening)
    except FAILURES as error:
        return unavailable(error, maybe_sent=False).reason
    return ""
