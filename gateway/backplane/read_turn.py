"""When what came together from Redis goes out: as soon as all of it is taken in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

Callback = Callable[[], None]


class ReadTurn:
    """Runs callbacks at the end of the read under way; at the end of the event loop's turn where nothing is being read.

    Waiting for the next turn would be one more look at all sockets, for each message that comes alone.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callback] | None = None

    def call_soon(self, callback: Callback) -> None:
        """Run ``callback`` once all that came with the present message is taken in."""
        if self._callbacks is None:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._callbacks.append(callback)

    def begin(self) -> None:
        """A read begins to be taken in."""
        self._callbacks = []

    def end(self) -> None:
        """All of it is taken in."""
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:
                # It is not the connection's fault, which would be given up for it.
                log.exception("read_turn_failed")
