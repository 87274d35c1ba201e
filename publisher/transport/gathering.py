"""Lets calls that are made in the same turn of the event loop be one: they share a round trip and what comes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from publisher.transport.flows import Flow

Finished: TypeAlias = Callable[[Any], None]
Together: TypeAlias = Callable[[Iterable[Any], Finished | None], Flow[None]]
"""A flow for several items at once, which tells of each when it is done."""


class Gathering:
    """Belongs to one event loop.

    Args:
        run: takes the steps of a flow.
    """

    def __init__(self, run: Callable[[Flow[None]], Awaitable[None]]) -> None:
        self._run = run
        self._gathered: dict[Any, asyncio.Future[None]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, item: Any, together: Together) -> Awaitable[None]:
        """Returns when ``item`` is done, by ``together`` with those that others bring in this turn."""
        if self._gathered is None:
            return self._lead(item, together)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered[item] = done
        return done

    async def _lead(self, item: Any, together: Together) -> None:
        """Wait a turn for others. A call that stays alone needs no task."""
        others: dict[Any, asyncio.Future[None]] = {}
        self._gathered = others
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._start(others, together)
            raise
        finally:
            self._gathered = None
        if not others:
            await self._run(together([item], None))
            return
        done = asyncio.get_running_loop().create_future()
        self._start({item: done, **others}, together)
        await done

    def _start(self, gathered: dict[Any, asyncio.Future[None]], together: Together) -> None:
        """Do it in a task of its own: none of those who wait may end it for the others."""
        wanted = {item: done for item, done in gathered.items() if not done.cancelled()}
        if wanted:
            task = asyncio.create_task(self._work(wanted, together), name="gathered calls")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, wanted: dict[Any, asyncio.Future[None]], together: Together) -> None:
        def finished(item: Any) -> None:
            done = wanted.pop(item)
            if not done.done():
                done.set_result(None)

        try:
            await self._run(together(list(wanted), finished))
        except Exception as error:  # noqa: BLE001 - each of them raises it
            for done in wanted.values():
                if not done.done():
                    done.set_exception(error)
        finally:
            for done in wanted.values():
                done.cancel()
