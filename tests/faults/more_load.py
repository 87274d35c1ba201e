"""What a world has besides its plain channels: each further thing that backends do, with clients that show what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import aiohttp
import redis.asyncio

from publisher import AsyncPublisher, Retention
from publisher.contract.keys import Keys
from tests.faults.attendance import Member, RestlessClient, Watcher
from tests.faults.endings import Ender, ReturningClient
from tests.faults.events import KINDS, EventReader, events_in, told_of_all_dead
from tests.faults.moderation import Moderator, PersistentClient
from tests.faults.numbered import NumberedPublisher
from tests.faults.observing import numbers_in_logs
from tests.faults.over_http import ApiPublisher
from tests.faults.plain_client import PlainClient
from tests.faults.receipts import Asker
from tests.faults.removing import Remover
from tests.faults.scheduling import Planner, publications_of
from tests.faults.trace import Device
from tests.faults.world import BY_GRANT, BY_PROCESS, World
from tests.support.waiting import until

SHORT: Final = "run-results/short"
LATER: Final = "run-results/later"
REMOVED: Final = "run-results/removed"
RECEIPTS: Final = "run-results/receipts"
BY_API: Final = "run-results/by-api"
ROOM: Final = "rooms/1"
_KEPT: Final = Retention(max_messages=20, max_age_seconds=86_400)
_PLANS_SECONDS: Final = 20.0
_DEAD_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.5

SETTINGS: Final[dict[str, Any]] = {
    "namespaces": json.dumps({"rooms": {"presence": {"announce": True}}}),
    "events": KINDS,
    # A run's events are looked at in the end.
    "events_max_length": 1_000_000,
}
"""What nodes need for it, besides keys of the HTTP API."""


class MoreLoad:
    """Begins all of it.

    Args:
        session: with which clients connect and the HTTP API is asked.
        url: what clients connect to.
    """

    def __init__(
        self, w: World, session: aiohttp.ClientSession, publisher: AsyncPublisher, url: str
    ) -> None:
        self._w = w
        self._session = session
        self._publisher = publisher
        self._url = url
        self._keys = Keys(w.prefix)
        self._watcher = Watcher(publisher, ROOM, w.trace)

    async def begin(self) -> None:
        """Let the clients connect and the backends work."""
        w, trace = self._w, self._w.trace
        trace.short[SHORT] = _KEPT
        self._client("pam", BY_PROCESS)
        self._client("sam", SHORT)
        self._client("gus", BY_GRANT, kind=partial(PersistentClient, named=False))
        w.let_work(Moderator(self._publisher, BY_GRANT, "gus", trace, w.dice))
        w.publish(BY_GRANT, w.load.rate, 0)
        w.publish(SHORT, w.load.rate, 0, keyed=False, retention=_KEPT)
        self._end_connections()
        self._publish_in_other_ways()
        self._come_and_go()
        w.let_work(EventReader(self._publisher, trace))
        for step in (self._plans_are_over, self._presence_settles, self._dead_are_told):
            w.let_settle(step)
        await w.process.start()

    def _end_connections(self) -> None:
        channel = "notifications/hal"
        clients = [self._client("hal", channel, number=n, kind=ReturningClient) for n in range(2)]
        self._w.let_work(Ender(self._publisher, clients, self._w.trace, self._w.dice))
        self._w.publish(channel, self._w.load.rate, 0)

    def _publish_in_other_ways(self) -> None:
        w = self._w
        for user, channels in (
            ("liz", (LATER,)),
            ("lou", (RECEIPTS, BY_API, REMOVED)),
            ("rex", (RECEIPTS,)),
        ):
            self._client(user, *channels)
        restless = partial(RestlessClient, dice=w.dice, stays=4, away=4)
        self._client("ron", REMOVED, kind=restless)
        arguments = (w.trace, w.dice, w.load.rate)
        w.let_work(Planner(self._publisher, LATER, *arguments))
        w.let_work(Remover(self._publisher, REMOVED, *arguments))
        w.let_work(Asker(self._publisher, RECEIPTS, *arguments))
        urls = [node.api_url for node in w.nodes]
        of_api: NumberedPublisher = ApiPublisher(self._publisher, BY_API, *arguments, urls=urls)
        w.let_work(of_api)

    def _come_and_go(self) -> None:
        restless = partial(RestlessClient, dice=self._w.dice)
        self._client("ida", ROOM, kind=Member)
        self._client("jon", ROOM, kind=partial(restless, stays=8, away=4))
        # Of those who are away for long, most were at a node that has ended.
        for user in ("kim", "moe", "nat"):
            self._client(user, ROOM, kind=partial(restless, stays=600, away=30))
        self._w.let_work(self._watcher)

    def _client(
        self,
        user: str,
        *channels: str,
        number: int = 0,
        kind: Callable[..., PlainClient] = PlainClient,
    ) -> PlainClient:
        return self._w.add_client(Device(user, f"{user}'s {number}", channels), self._url, kind)

    # -- what is waited for in the end --------------------------------------------------------

    async def _plans_are_over(self) -> None:
        """Nothing waits to be published, or it has waited for long enough; what was is in the trace then."""
        keys, trace = self._keys, self._w.trace

        async def over() -> bool:
            async with self._redis(keys.scheduled) as client:
                return not await client.exists(keys.scheduled, keys.scheduled_publishing)

        with contextlib.suppress(TimeoutError):
            await until(over, _PLANS_SECONDS)
        trace.logged = await numbers_in_logs(self._w.redis.server_of, self._w.prefix, trace)
        trace.publications += publications_of(trace)

    async def _presence_settles(self) -> None:
        def there() -> set[str]:
            clients = self._w.subscribed
            return {each.device.user for each in clients if ROOM in each.device.channels}

        await self._watcher.settle(there)

    async def _dead_are_told(self) -> None:
        """The living have told of the connections of the dead, or have had long enough for it."""
        trace = self._w.trace
        for node in self._w.nodes:
            trace.killed |= node.killed

        async def told() -> bool:
            async with self._redis(self._keys.events) as client:
                if told_of_all_dead(trace, await events_in(client, self._w.prefix)):
                    return True
            await asyncio.sleep(_LOOK_SECONDS)
            return False

        with contextlib.suppress(TimeoutError):
            await until(told, _DEAD_SECONDS)

    def _redis(self, key: str) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(port=self._w.redis.server_of(key).port)
