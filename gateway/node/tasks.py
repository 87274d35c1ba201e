"""Tasks that outlive the call that starts them, how a node's loops go on and its last steps are taken, sleeps that
can be ended, and calls that are retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from gateway.core.timing import Backoff
from publisher.errors import Unavailable

T = TypeVar("T")

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 3.0
"""So long Redis has to take what a node that ends still has to write."""


class Tasks:
    """Keeps tasks alive, logs what kills them, and ends them all when it closes."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_failed task=%s", task.get_name(), exc_info=error)

    async def aclose(self, patience: float = 0) -> None:
        """Give what still runs ``patience`` seconds to finish, cancel the rest and wait for its end."""
        if patience and self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        running = list(self._tasks)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def keep_going(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a loop of the node; a defect in it is logged and must not leave the node half alive."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("loop_failed loop=%s", work.__qualname__)
            await asyncio.sleep(_RESTART_SECONDS)


async def take_step(
    name: str, step: Coroutine[None, None, None], seconds: float | None = _STEP_SECONDS
) -> None:
    """Take one of the last steps; that it fails is logged and keeps no other from being taken."""
    try:
        async with asyncio.timeout(seconds):
            await step
    except (Unavailable, TimeoutError) as error:
        reason = error.reason if isinstance(error, Unavailable) else "no answer in time"
        log.warning("stop_incomplete step=%r reason=%s", name, reason)
    except Exception:
        log.exception("stop_failed step=%r", name)


class Sleep:
    """A sleep that somebody else can end."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End the sleep; one that has not begun ends as it begins."""
        self._ended.set()

    async def __call__(self, seconds: float) -> bool:
        """Sleep; returns whether somebody has ended it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        ended = self._ended.is_set()
        self._ended.clear()
        return ended


class Retry:
    """Asks again with growing, jittered pauses: a client that has no answer yet has lost nothing.

    Args:
        jitter: a number from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    async def __call__(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``ask``, however often it has to be asked.

        Raises:
            Unavailable: an error that asking again does not mend.
        """
        backoff: Backoff | None = None
        while True:
            try:
                return await ask()
            except Unavailable as error:
                if not error.retryable:
                    raise
                backoff = backoff or Backoff(self._jitter)
                await asyncio.sleep(backoff.next())
