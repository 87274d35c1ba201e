"""Places that Redis may hold though no connection has them any more, until it has confirmed their release."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Final

from gateway.backplane.servers import ONE, Servers
from gateway.core.chunks import chunks, groups
from gateway.node.tasks import Sleep
from publisher.contract.calls import Call, Reply
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls, has_failed

log = logging.getLogger(__name__)

CALLS_AT_ONCE: Final = 200
_INTERVAL_SECONDS: Final = 3.0


class Releases:
    """Releases places: at once, or together every few seconds while the server that has them does not answer.

    Args:
        call: makes the call that releases the place of a user's connection.
    """

    def __init__(
        self,
        pipeline: Calls,
        call: Callable[[str, str], Call],
        servers: Servers = ONE,
    ) -> None:
        self._pipeline = pipeline
        self._call = call
        self._server_of = servers.of
        self._unreleased: dict[str, _Release] = {}
        # Servers that have not answered: what they have is released together, every few seconds.
        self._silent: set[str] = set()
        self._sleep = Sleep()

    def __len__(self) -> int:
        return len(self._unreleased)

    def __contains__(self, connection: str) -> bool:
        return connection in self._unreleased

    def release(self, user: str, connection: str) -> None:
        """Release a place, now or as soon as the server that has it answers."""
        call = self._call(user, connection)
        release = self._unreleased[connection] = _Release(call, self._server(call))
        if release.server not in self._silent:
            # Without a task: who comes back in this turn comes behind it.
            answer = self._pipeline.begin(call)
            answer.add_done_callback(partial(self._answered, connection, release))

    def _server(self, call: Call) -> str:
        return self._server_of(str(call.key))

    def _answered(self, connection: str, release: _Release, answer: asyncio.Future[Reply]) -> None:
        # What Redis refuses it would refuse again; then the lease runs out.
        refused = not answer.cancelled() and isinstance(answer.exception(), Rejected)
        if has_failed(answer) and not refused:
            self._silent.add(release.server)
        elif self._unreleased.get(connection) is release:
            # One that was made meanwhile is about a place that was perhaps taken after this.
            del self._unreleased[connection]

    def hurry(self) -> None:
        """Release what is unreleased without waiting for the end of the interval."""
        self._sleep.end()

    async def run(self) -> None:
        """Release what is unreleased, until cancelled."""
        while True:
            await self._sleep(_INTERVAL_SECONDS)
            try:
                await self.release_all()
            except Unavailable as error:
                log.info("places_unreleased count=%d reason=%s", len(self), error.reason)

    async def release_all(self) -> None:
        """Release now what is unreleased, at all servers side by side.

        Raises:
            Unavailable: one of them did not answer; what it has is still unreleased.
        """
        for release in self._unreleased.values():
            release.server = self._server(release.call)  # its slot may have moved
        by_server = groups(self._unreleased.items(), lambda each: each[1].server)
        self._silent &= by_server.keys()
        outcomes = await asyncio.gather(
            *(self._release_at(server, releases) for server, releases in by_server.items()),
            return_exceptions=True,
        )
        for each in outcomes:
            if each is not None:
                raise each

    async def _release_at(self, server: str, releases: list[tuple[str, _Release]]) -> None:
        try:
            for some in chunks(releases, CALLS_AT_ONCE):
                await gather_calls(self._again(*each) for each in some)
        except Unavailable:
            self._silent.add(server)
            raise
        self._silent.discard(server)

    async def _again(self, connection: str, release: _Release) -> None:
        answer = self._pipeline.begin(release.call)
        with contextlib.suppress(Rejected):
            await answer
        self._answered(connection, release, answer)


class _Release:
    """A release that Redis has not confirmed yet, and the server that has the place."""

    __slots__ = ("call", "server")

    def __init__(self, call: Call, server: str) -> None:
        self.call = call
        self.server = server


async def gather_calls(calls: Iterable[Coroutine[None, None, None]]) -> int:
    """Make calls for several users together; returns how many failed.

    One user's trouble is no reason to leave the others' leases to run out.

    Raises:
        Unavailable: none of them succeeded, so that the next would not either.
    """
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [each for each in outcomes if each is not None]
    for each in failures:
        if len(failures) == len(outcomes) or not isinstance(each, Unavailable):
            raise each
    if failures:
        log.warning("place_calls_failed count=%d reason=%s", len(failures), failures[0])
    return len(failures)
