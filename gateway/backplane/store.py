"""What is kept in Redis for channels: logs and grants, which are read here, and namespaces, which are announced."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import orjson

from gateway.backplane.positions import Positions
from gateway.core.timing import Backoff
from gateway.node.stats import Stats
from gateway.node.tasks import Pause
from publisher.contract import scripts
from publisher.contract.calls import GRANTED_FOR_EVER, Call, parse_log, raise_last, read_log
from publisher.contract.channels import Namespace
from publisher.contract.keys import Keys
from publisher.contract.message import LogPage
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Pipeline

log = logging.getLogger(__name__)


class LogReader:
    """Implements ``ports.Log``."""

    def __init__(self, pipeline: Pipeline, keys: Keys, positions: Positions, stats: Stats) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._positions = positions
        self._stats = stats

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        """At most ``limit`` messages after ``since``, or after what ``user`` has confirmed."""
        # Taken now: what is confirmed while the page is on its way is not missing from it.
        unwritten = 0 if since is not None else self._positions.confirmed(channel, user)
        call = read_log(self._keys, channel, user, since, limit)
        page = parse_log(await self._pipeline.call(call))
        if unwritten and unwritten > page.position:
            page = replace(page, position=unwritten)
        if page.unreadable:
            self._stats.messages_invalid += page.unreadable
            log.warning("log_unreadable channel=%s entries=%d", channel, page.unreadable)
        return page

    async def raise_last(self, channel: str, position: int) -> None:
        """Let the ids of new messages be above ``position``, which Redis has lost."""
        kept = self._positions.kept_seconds(channel)
        await self._pipeline.call(raise_last(self._keys, channel, position, kept))


class GrantReader:
    """Implements ``ports.Grants``.

    A key with a random value marks the data in Redis. A value that is gone, or another one, means that the
    data were lost.
    """

    def __init__(self, pipeline: Pipeline, keys: Keys, stats: Stats) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._stats = stats
        self._marker: str | None = None

    async def remaining(self, channel: str, user: str) -> float:
        """Seconds for which ``user``, or everybody, still holds a grant; 0 for none, ``inf`` for ever."""
        call = Call.run(scripts.GRANTED, [self._keys.grant(channel)], user)
        milliseconds = await self._pipeline.call(call)
        return math.inf if milliseconds == GRANTED_FOR_EVER else milliseconds / 1000

    async def lost(self) -> bool:
        """Whether Redis has lost its data since this was asked last."""
        new = secrets.token_hex(8)  # never one that was there before
        found = await self._pipeline.call(Call(("SET", self._keys.marker, new, "NX", "GET")))
        before, self._marker = self._marker, new if found is None else found.decode()
        lost = before is not None and before != self._marker
        if lost:
            self._stats.redis_data_losses += 1
            log.warning("redis_data_lost")
        return lost


_INTERVAL_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 300
"""A namespace that no node has announced for so long is removed, so that publishers forget it."""


class Announcing:
    """Tells the publishers which namespaces there are, again and again: Redis may lose its data.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keys: Keys,
        namespaces: Mapping[str, Namespace],
        jitter: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        rules = (
            part
            for name, namespace in namespaces.items()
            for part in (name, orjson.dumps(namespace.to_dict()))
        )
        self._call = Call.run(scripts.ANNOUNCE, [keys.namespaces], _FORGOTTEN_SECONDS, *rules)
        self._backoff = Backoff(jitter)
        self._pause = Pause()

    def at_once(self) -> None:
        """Write without waiting for the end of the interval."""
        self._pause.cut()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                await self._pipeline.call(self._call)
            except Rejected:
                await self._pause(_INTERVAL_SECONDS)  # the pipeline has logged it
            except Unavailable:
                await self._pause(self._backoff.next())
            else:
                self._backoff.reset()
                await self._pause(_INTERVAL_SECONDS)
