"""The server that calls go to now: the only one, or the primary that the sentinels name. For threads and for asyncio."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from publisher.transport import blocking
from publisher.transport.flows import driven, driven_async, round_trips
from publisher.transport.pipeline import Pipeline
from publisher.transport.redis_py import Connector, Host, shown
from publisher.transport.sentinel import SENTINEL_SECONDS, Answer, Known, Sentinels

log = logging.getLogger(__name__)


class OneServer:
    """The only server, for threads or for asyncio as its connections are.

    Implements ``blocking.Primary`` and ``loops.Primary``: it is never another one, so there is nothing to ask.
    """

    stale = False

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.most = connector.most

    @property
    def address(self) -> str:
        """Where it is, as a person reads it."""
        return self._connector.address

    def __call__(self) -> Any:
        """A new connection, not open yet."""
        return self._connector()

    def open(self, connection: Any) -> Any:
        """Open a connection; for asyncio what is returned is to be awaited."""
        return connection.connect()

    def leads_there(self, connection: Any) -> bool:  # noqa: ARG002 - there is only one server
        """Whether the connection is one to this server: always."""
        return True

    def refresh(self) -> Any:
        """Ask nobody."""
        raise NotImplementedError

    def doubt(self) -> None:
        """Doubt nothing."""

    def close(self) -> None:
        """Close nothing."""

    async def aclose(self) -> None:
        """Close nothing."""


class BlockingPrimary:
    """The primary of Sentinel, for threads. Implements ``blocking.Primary``."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._sentinels = sentinels
        self._known = Known(sentinels, time.monotonic, _log_move)
        self._asked = [
            blocking.Connections(OneServer(each.within(SENTINEL_SECONDS)), SENTINEL_SECONDS)
            for each in sentinels.sentinels
        ]
        self.most = sentinels.servers.most

    @property
    def address(self) -> str:
        """Where it is, as a person reads it; its name as long as that is not known."""
        return self._known.address

    @property
    def stale(self) -> bool:
        """Whether to :meth:`refresh` before anything more is written."""
        return self._known.stale

    def __call__(self) -> Any:
        """A new connection, which :meth:`open` leads to the primary."""
        return self._sentinels.servers()

    def open(self, connection: Any) -> None:
        """Lead a connection to what is the primary now, and open it.

        Raises:
            RedisError, OSError: it could not be opened.
            Unavailable: no sentinel knows the primary.
        """
        connection.host, connection.port = driven(self._known.find(), self._ask)
        connection.connect()

    def leads_there(self, connection: Any) -> bool:
        """Whether the connection is one to the primary, as far as is known."""
        return self._known.host == (connection.host, connection.port)

    def refresh(self) -> None:
        """Ask one sentinel."""
        driven(self._known.look(), self._ask)

    def doubt(self) -> None:
        """The server did not answer, or not as a primary does."""
        self._known.doubt()

    def _ask(self, number: int) -> Answer:
        question = round_trips(self._sentinels.question)
        return self._sentinels.read(blocking.run(question, self._asked[number]))

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for connections in self._asked:
            connections.close()


class LoopPrimary:
    """The primary of Sentinel, for one event loop. Implements ``loops.Primary``.

    Args:
        moved: told when the primary is another one: connections to the former one are to be given up.
    """

    def __init__(self, sentinels: Sentinels, moved: Callable[[], None]) -> None:
        self._sentinels = sentinels
        self._moved = moved
        self._known = Known(sentinels, asyncio.get_running_loop().time, self._note_move)
        self._asked = [
            Pipeline(OneServer(each), None, SENTINEL_SECONDS) for each in sentinels.sentinels
        ]
        self._refreshing: asyncio.Task[Host] | None = None

    @property
    def stale(self) -> bool:
        """Whether to :meth:`refresh` before anything more is written."""
        return self._known.stale

    @property
    def address(self) -> str:
        """Where it is, as a person reads it; its name as long as that is not known."""
        return self._known.address

    @property
    def host(self) -> Host | None:
        """Where the primary is, as far as is known."""
        return self._known.host

    def __call__(self) -> Any:
        """A new connection, which :meth:`open` leads to the primary."""
        return self._sentinels.servers()

    async def open(self, connection: Any) -> None:
        """Lead a connection to what is the primary now, and open it.

        Raises:
            RedisError, OSError: it could not be opened, or is one to a former primary by now.
            Unavailable: no sentinel knows the primary.
        """
        host = await driven_async(self._known.find(), self._ask)
        connection.host, connection.port = host
        await connection.connect()
        if self._known.host != host:
            raise RedisConnectionError(f"{shown(host)} is the primary no more")

    async def refresh(self) -> None:
        """Ask one sentinel, once for all who want to know."""
        if self._refreshing is None:
            looking = driven_async(self._known.look(), self._ask)
            self._refreshing = asyncio.create_task(looking, name="sentinel")
            self._refreshing.add_done_callback(self._refreshed)
        await asyncio.shield(self._refreshing)

    def _refreshed(self, _task: asyncio.Task[Host]) -> None:
        self._refreshing = None

    async def ask(self, number: int) -> None:
        """Ask this sentinel: it has told of a change, or nobody has listened to it for a while.

        Raises:
            Unavailable: it does not know the primary.
        """
        self._known.learn(await self._ask(number))

    def doubt(self) -> None:
        """The server did not answer, or not as a primary does."""
        self._known.doubt()

    async def _ask(self, number: int) -> Answer:
        commands = [call.cached() for call in self._sentinels.question]
        return self._sentinels.read(await self._asked[number].round_trip(commands))

    def _note_move(self, before: Host, now: Host) -> None:
        _log_move(before, now)
        self._moved()

    async def aclose(self) -> None:
        """Close the connections to the sentinels."""
        for pipeline in self._asked:
            await pipeline.aclose()


def _log_move(before: Host, now: Host) -> None:
    log.warning("redis_primary_moved from=%s to=%s", shown(before), shown(now))
