"""Places that Redis may hold though no connection has them any more, until it has confirmed their release."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Final

from gateway.core.chunks import chunks
from gateway.node.tasks import Sleep
from publisher.contract.calls import Call, Reply
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls, has_failed

log = logging.getLogger(__name__)

CALLS_AT_ONCE: Final = 200
_INTERVAL_SECONDS: Final = 3.0


class Releases:
    """Releases places: at once, or together every few seconds while Redis does not answer.

    Args:
        call: makes the call that releases the place of a user's connection.
    """

    def __init__(self, pipeline: Calls, call: Callable[[str, str], Call]) -> None:
        self._pipeline = pipeline
        self._call = call
        self._unreleased: dict[str, _Release] = {}
        self._at_once = True
        self._sleep = Sleep()

    def __len__(self) -> int:
        return len(self._unreleased)

    def __contains__(self, connection: str) -> bool:
        return connection in self._unreleased

    def release(self, user: str, connection: str) -> None:
        """Release a place, now or as soon as Redis answers."""
        release = self._unreleased[connection] = _Release(user)
        if self._at_once:
            # Without a task: who comes back in this turn comes behind it.
            answer = self._begin(connection, release)
            answer.add_done_callback(partial(self._answered, connection, release))

    def _begin(self, connection: str, release: _Release) -> asyncio.Future[Reply]:
        return self._pipeline.begin(self._call(release.user, connection))

    def _answered(self, connection: str, release: _Release, answer: asyncio.Future[Reply]) -> None:
        # What Redis refuses it would refuse again; then the lease runs out.
        refused = not answer.cancelled() and isinstance(answer.exception(), Rejected)
        if has_failed(answer) and not refused:
            self._at_once = False
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
                self._at_once = False
                log.info("places_unreleased count=%d reason=%s", len(self), error.reason)
            else:
                self._at_once = True

    async def release_all(self) -> None:
        """Release now what is unreleased.

        Raises:
            Unavailable: Redis did not answer; the rest is still unreleased.
        """
        for some in chunks(list(self._unreleased.items()), CALLS_AT_ONCE):
            await gather_calls(self._again(release, connection) for connection, release in some)

    async def _again(self, release: _Release, connection: str) -> None:
        answer = self._begin(connection, release)
        with contextlib.suppress(Rejected):
            await answer
        self._answered(connection, release, answer)


class _Release:
    """A release that Redis has not confirmed yet."""

    __slots__ = ("user",)

    def __init__(self, user: str) -> None:
        self.user = user


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
