"""Who has the transport of a client's connection, and what is done to it when a time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class TransportOwner(asyncio.Protocol):
    """One protocol of a connection: at most one thing waits for its time."""

    __slots__ = ("_deadline", "_transport")
    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._deadline: asyncio.TimerHandle | None = None

    def _set_deadline(self, seconds: float, then: Callable[..., object], *given: float) -> None:
        """Do this then, in the place of what was to be done."""
        self._cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_later(seconds, then, *given)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- from the transport (asyncio.Protocol) ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ours from now on."""
        self._transport = cast(asyncio.Transport, transport)
