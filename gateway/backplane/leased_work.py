"""Work that of all nodes one does at a time: the one that has said so first, as long as it looks for what is due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from publisher.contract import scripts
from publisher.contract.calls import Call
from publisher.errors import Rejected, Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 3.0
"""So long after a node has looked last, another one takes over."""

LOOK_SECONDS: Final = 0.8
"""Every node looks so often: one for what is due, so that nothing waits for more than a second, and the others for whether that one
has given up the lease."""

AGAIN_SECONDS: Final = 60.0
"""What Redis refuses for good is tried again then: rights may be given, and nothing is thrown away."""

_MOST: Final = 1_000
_MOST_BYTES: Final = 4 * 1024 * 1024
"""While so much is under way, more is begun only at the regular looks: a part of Redis that does not answer makes the others late,
and does not stop them."""

_FINISH_SECONDS: Final = 1.0
"""So long a node that ends finishes what is under way. What is left is handed out again, to the next one."""


class LeasedWork:
    """Looks for what is due, keeps what is under way, and gives up the lease at the end.

    Args:
        lease: the key that names the node that does the work. The script of ``look`` takes it, and renews it.
        look: begins what is due; returns the seconds until the next look.
    """

    def __init__(
        self,
        pipeline: Calls,
        lease: str,
        node: str,
        look: Callable[[], Coroutine[Any, Any, float]],
    ) -> None:
        self._pipeline = pipeline
        self._look = look
        self.release: Final = Call.run(scripts.RELEASE_LEASE, [lease], node)
        self._under_way: set[str] = set()
        self._bytes = 0
        self._tasks: asyncio.TaskGroup  # while it runs
        self._one_is_done = asyncio.Event()
        self._looking = asyncio.Lock()
        self._closed = False
        self._refused = False

    def __contains__(self, name: str) -> bool:
        """Whether it is under way."""
        return name in self._under_way

    @property
    def full(self) -> bool:
        """Whether as much is under way as can be."""
        return len(self._under_way) >= _MOST or self._bytes >= _MOST_BYTES

    def begin(self, name: str, work: Coroutine[Any, Any, None], size: int = 0) -> None:
        """Do what has this name, and ``size`` bytes, beside all else."""
        self._under_way.add(name)
        self._bytes += size
        self._tasks.create_task(work).add_done_callback(lambda _: self._end(name, size))

    def _end(self, name: str, size: int) -> None:
        self._under_way.discard(name)
        self._bytes -= size
        self._one_is_done.set()

    async def run(self) -> None:
        """Look until closed or cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while not self._closed:
                await self._wait_while(lambda: self.full, LOOK_SECONDS)
                async with self._looking:
                    pause = 0.0 if self._closed else await self._look_once()
                await asyncio.sleep(pause)

    async def _look_once(self) -> float:
        """Look; returns the seconds until the next one."""
        try:
            pause = await self._look()
        except Unavailable as error:
            if isinstance(error, Rejected) and not self._refused:
                self._refused = True
                log.warning("look_refused lease=%s reason=%s", self.release.key, error.reason)
            return LOOK_SECONDS
        self._refused = False
        return pause

    async def _wait_while(self, busy: Callable[[], bool], seconds: float) -> None:
        """Return when what is under way has become less, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while busy():
                    self._one_is_done.clear()
                    await self._one_is_done.wait()

    async def close(self) -> None:
        """Finish what is under way, and let another node take over at once.

        Raises:
            Unavailable: Redis did not answer; another node takes over when the lease has run out.
        """
        self._closed = True
        async with self._looking:
            await self._wait_while(lambda: bool(self._under_way), _FINISH_SECONDS)
            await self._pipeline.call(self.release)
