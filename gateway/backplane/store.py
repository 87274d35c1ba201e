"""What is kept in Redis for channels: logs, grants, confirmed positions, namespaces.

Reading the retained messages and the grants of channels.

What users have confirmed, written to Redis several times a second.

Telling the publishers which namespaces there are, and what they retain.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import orjson

from gateway.core.chunks import chunks
from gateway.core.timing import Backoff
from gateway.node.stats import Stats
from gateway.node.tasks import Pause
from publisher.contract import scripts
from publisher.contract.calls import GRANTED_FOR_EVER, Call, Reply, parse_log, read_log
from publisher.contract.channels import POSITIONS_SECONDS, Namespace
from publisher.contract.keys import Keys
from publisher.contract.message import LogPage
from publisher.errors import Unavailable
from publisher.transport.pipeline import Pipeline, has_failed

log = logging.getLogger(__name__)


class LogReader:
    """Implements ``ports.Log``."""

    def __init__(self, pipeline: Pipeline, keys: Keys, stats: Stats) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._stats = stats

    async def read(self, channel: str, user: str, since: int | None, limit: int) -> LogPage:
        """At most ``limit`` messages after ``since``, or after what ``user`` has confirmed."""
        call = read_log(self._keys, channel, user, since, limit)
        page = parse_log(await self._pipeline.call(call))
        if page.unreadable:
            self._stats.messages_invalid += page.unreadable
            log.warning("log_unreadable channel=%s entries=%d", channel, page.unreadable)
        return page


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


log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.2
_USERS_PER_CALL: Final = 500


class Cursors:
    """Implements ``ports.Cursors``: gathers, and writes two commands a channel.

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
        self._jitter = jitter
        self._pipeline = pipeline
        self._keys = keys
        self._namespaces = namespaces
        self._gathered: dict[str, dict[str, int]] = {}
        self._writing: dict[str, dict[str, int]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._pause = Pause()

    def advance(self, channel: str, user: str, id: int) -> None:
        """Note that ``user`` has everything up to ``id``."""
        users = self._gathered.setdefault(channel, {})
        if users.get(user, 0) < id:
            users[user] = id

    def confirmed(self, channel: str, user: str) -> int:
        """What is noted for ``user`` and not written yet."""
        return max(
            self._gathered.get(channel, {}).get(user, 0),
            self._writing.get(channel, {}).get(user, 0),
        )

    def hurry(self) -> None:
        """Write what is noted now rather than soon."""
        if self._gathered:
            self._pause.cut()

    async def run(self) -> None:
        """Write until cancelled."""
        backoff = Backoff(self._jitter)
        failing = False
        while True:
            await self._pause(_PAUSE_SECONDS)
            try:
                await self.flush()
            except Unavailable as error:
                if not failing:
                    log.warning("cursors_unwritten reason=%s", error.reason)
                failing = True
                await asyncio.sleep(backoff.next())
            else:
                failing = False
                backoff.reset()

    async def flush(self) -> None:
        """Write what has gathered; what cannot be written stays for the next time.

        Raises:
            Unavailable: Redis did not answer.
        """
        async with self._one_at_a_time:
            self._writing, self._gathered = self._gathered, {}
            try:
                await self._write_all()
            finally:
                self._writing = {}

    async def _write_all(self) -> None:
        writes = [
            (channel, some, self._begin(channel, some))
            for channel, users in self._writing.items()
            for some in chunks(users.items(), _USERS_PER_CALL)
        ]
        answers = [answer for *_, both in writes for answer in both]
        failure: Unavailable | None = None
        try:
            # One after the other, in the order of the replies: when the first is there most are, and
            # what is there is not waited for.
            for answer in answers:
                try:
                    await answer
                except Unavailable as error:
                    failure = failure or error
        finally:
            for answer in answers:
                answer.cancel()  # those that nobody waits for any more
            for channel, users, both in writes:
                first, second = map(has_failed, both)
                if first or second:
                    for user, id_ in users:
                        self.advance(channel, user, id_)
        if failure is not None:
            raise failure

    def _begin(
        self, channel: str, users: Iterable[tuple[str, int]]
    ) -> tuple[asyncio.Future[Reply], asyncio.Future[Reply]]:
        """Begin both commands of a write; unless both succeed it is made again, which changes nothing.

        They leave together, in this order. What was written without its expiry gets it with the next
        try, or with the next confirmation in the channel.
        """
        key = self._keys.seen(channel)
        # GT: forward only, since another node may know more.
        scores = [part for user, id_ in users for part in (id_, user)]
        return (
            self._pipeline.begin(Call(("ZADD", key, "GT", *scores))),
            self._pipeline.begin(Call(("EXPIRE", key, self._lifetime(channel)))),
        )

    def _lifetime(self, channel: str) -> int:
        """Seconds after which what is confirmed in a channel is forgotten."""
        namespace = self._namespaces.get(channel.partition("/")[0])
        # A publisher may log what this gateway does not know to be logged.
        kept = namespace.retention if namespace else None
        return kept.positions_seconds if kept else POSITIONS_SECONDS


_INTERVAL_SECONDS: Final = 60.0


class Announcing:
    """Writes the namespaces to Redis again and again: it may lose its data.

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
        self._command = (
            "HSET",
            keys.namespaces,
            *(
                part
                for name, namespace in namespaces.items()
                for part in (name, orjson.dumps(namespace.to_dict()))
            ),
        )
        self._backoff = Backoff(jitter)
        self._pause = Pause()

    def at_once(self) -> None:
        """Write without waiting for the end of the interval."""
        self._pause.cut()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                await self._pipeline.call(Call(self._command))
            except Unavailable:
                await self._pause(self._backoff.next())
            else:
                self._backoff.reset()
                await self._pause(_INTERVAL_SECONDS)
