"""What asyncio programs send: a pipeline that all calls of an event loop share, and connections for ``WAIT``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from publisher.contract.calls import Command, Reply, Wait
from publisher.errors import Unavailable
from publisher.transport.connection import Server
from publisher.transport.contact import Contact
from publisher.transport.failures import needs_other_connection
from publisher.transport.flows import Flow, Pause, RoundTrip, Scripts, Step, T, driven_async
from publisher.transport.gathering import Gathering
from publisher.transport.pipeline import Pipeline

MAX_WAITING: Final = 100
"""Round trips of one event loop that wait for replicas at the same time, each on a connection of its own."""


class NoneFree(Unavailable):
    """All connections for calls that wait for replicas are in use. It says nothing of the primary."""


class Primary(Server, Protocol):
    """The server that calls go to now (``primary.py``)."""

    @property
    def address(self) -> str: ...
    @property
    def stale(self) -> bool: ...
    async def refresh(self) -> None: ...
    def doubt(self) -> None: ...
    async def aclose(self) -> None: ...


ForLoop = Callable[[Callable[[], None]], Primary]
"""The primary for the running event loop. It tells the argument when it is another server."""


class LoopConnections:
    """The connections of one event loop. They end with its tasks, or with :meth:`aclose`.

    ``WAIT`` speaks of what its own connection has written, and nothing else is answered there meanwhile. So a
    round trip that waits for replicas has a connection to itself.

    Args:
        for_loop: gives the primary.
        timeout: seconds a round trip may take.
    """

    def __init__(self, for_loop: ForLoop, timeout: float) -> None:
        primary = self._primary = for_loop(self._move)
        self._contact = Contact(lambda: primary.address)
        self._timeout = timeout
        # What is worth waiting for was gathered before.
        self._shared = Pipeline(self._primary, None, timeout, gathering=0.0)
        self._scripts = Scripts()
        self._alone: list[Pipeline] = []
        self._unused: list[Pipeline] = []
        self._waiting = asyncio.Semaphore(MAX_WAITING)
        self.gathering = Gathering(lambda flow: run(flow, self))

    async def take(self, step: Step) -> list[Reply]:
        """Take a step of a flow; returns the replies to it."""
        if isinstance(step, RoundTrip):
            return await self.of_primary(step)
        assert isinstance(step, Pause), "the others are steps for a cluster"
        await asyncio.sleep(step.seconds)
        return []

    def gathering_of(self, _channel: str) -> Gathering:
        """With whom a publish to this channel shares round trips."""
        return self.gathering

    async def of_primary(self, step: RoundTrip) -> list[Reply]:
        """As :meth:`round_trip`; the log is told when the primary is lost, and when it is reached again."""
        try:
            replies = await self.round_trip(step)
        except NoneFree:
            raise
        except Unavailable as error:
            self._contact.failed(error)
            raise
        self._contact.answered()
        return replies

    async def round_trip(self, step: RoundTrip) -> list[Reply]:
        """The replies to a step's calls, with errors among them, and the number of replicas behind them if asked for.

        Raises:
            Unavailable: no answer to all of them.
        """
        if self._primary.stale:
            await self._primary.refresh()
        commands, known = self._scripts.commands(step)
        try:
            if step.wait is None:
                replies = await self._shared.round_trip(commands)
            else:
                replies = await self._wait(commands, step.wait)
        except NoneFree:
            raise
        except Unavailable:
            self._primary.doubt()
            self._scripts.forget()
            raise
        self._scripts.answered(known, replies)
        if needs_other_connection(replies):
            self._primary.doubt()
        return replies

    async def _wait(self, commands: list[Command], wait: Wait) -> list[Reply]:
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self._lent() as pipeline:
            # One deadline for both: what it took to get the connection is gone.
            return await pipeline.round_trip(commands, wait.seconds - (clock() - began))

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[Pipeline]:
        """A pipeline that nobody else uses meanwhile."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._waiting.acquire()
        except TimeoutError:
            reason = f"{MAX_WAITING} other calls are waiting for replicas"
            raise NoneFree(reason, maybe_sent=False) from None
        if not self._unused:
            self._unused.append(Pipeline(self._primary, None, self._timeout))
            self._alone += self._unused
        pipeline = self._unused.pop()
        try:
            yield pipeline
        except BaseException:
            pipeline.drop()  # Redis may still wait for replicas on it
            raise
        finally:
            self._unused.append(pipeline)
            self._waiting.release()

    def _move(self) -> None:
        """The primary is another server: what is under way is tried again there."""
        self._contact.given_up()
        self._scripts.forget()
        for pipeline in (self._shared, *self._alone):
            pipeline.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        self._contact.given_up()
        for pipeline in (self._shared, *self._alone):
            await pipeline.aclose()
        await self._primary.aclose()


class ConnectionsOfLoop(Protocol):
    """What an event loop sends by: :class:`LoopConnections`, or those of a cluster (``loop_cluster.py``)."""

    def take(self, step: Step) -> Awaitable[list[Reply]]: ...
    def gathering_of(self, channel: str) -> Gathering: ...
    async def aclose(self) -> None: ...


class Loops:
    """The connections of each running event loop that asks, made by ``connect``."""

    def __init__(self, connect: Callable[[], ConnectionsOfLoop]) -> None:
        self._connect = connect
        self._loops: dict[asyncio.AbstractEventLoop, ConnectionsOfLoop] = {}

    def running(self) -> ConnectionsOfLoop:
        """Those of the loop that runs now."""
        loop = asyncio.get_running_loop()
        connections = self._loops.get(loop)
        if connections is None:
            # Connections end with their loop; what is left of them is forgotten here.
            for other in [each for each in list(self._loops) if each.is_closed()]:
                self._loops.pop(other, None)
            connections = self._loops[loop] = self._connect()
        return connections

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        connections = self._loops.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.aclose()


def run(flow: Flow[T], connections: ConnectionsOfLoop) -> Awaitable[T]:
    """Take the steps of ``flow``, and return its result."""
    return driven_async(flow, connections.take)
