"""The connection over which a batcher's calls go: pipelined, without a task or a timer for any of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import hiredis

from gateway.backplane.reader import Reader, pack
from publisher.errors import Unavailable
from publisher.exchange import Call, Reply

MAX_UNDER_WAY: Final = 1_000
"""Calls written and not answered. What comes meanwhile gathers, so that load makes the writes larger."""


class Request:
    """A call on its way: ``answer`` becomes its reply or an ``Unavailable``; ``deadline`` in loop time."""

    __slots__ = ("answer", "call", "deadline", "packed", "whole")

    def __init__(self, call: Call, answer: asyncio.Future[Reply], deadline: float) -> None:
        self.call = call
        self.answer = answer
        self.deadline = deadline
        self.whole = call.script is None
        self.packed = pack(call.cached())

    def make_whole(self) -> None:
        """Send the script itself: Redis does not know it yet."""
        self.whole = True
        self.packed = pack(self.call.whole())

    def fail(self, reason: str, *, maybe_sent: bool) -> None:
        """Answer with an error, unless nobody waits any more. Each waiter raises one of its own."""
        if not self.answer.done():
            self.answer.set_exception(Unavailable(reason, maybe_sent=maybe_sent))


class Commands(Reader):
    """Writes requests, and answers them first in, first out.

    Args:
        refused: told the request that Redis has answered with an error, and the error's text.
        room: told that something was answered, once for all that arrived together.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        refused: Callable[[Commands, Request, str], None],
        room: Callable[[], None],
    ) -> None:
        super().__init__(transport, self._answer)
        self._refused = refused
        self._room = room
        self.under_way: deque[Request] = deque()

    def send(self, waiting: deque[Request]) -> None:
        """Write what waits in one piece, or as much as may be under way."""
        room = MAX_UNDER_WAY - len(self.under_way)
        if room < min(len(waiting), MAX_UNDER_WAY // 2):
            return  # a few at a time would be many writes
        packed: list[bytes] = []
        while waiting and len(packed) < room:
            request = waiting.popleft()
            if not request.answer.done():
                self.under_way.append(request)
                packed.append(request.packed)
        if packed:
            self.transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        """Answer what has its reply."""
        super().data_received(data)
        self._room()

    def _answer(self, reply: Reply) -> None:
        if not self.under_way:
            # Which reply belongs to which request would be a guess from here on.
            self.transport.abort()
            raise RuntimeError(f"Redis says what nobody asked for: {reply!r}")
        request = self.under_way.popleft()
        if type(reply) is hiredis.ReplyError:
            self._refused(self, request, str(reply))
        elif not request.answer.done():
            request.answer.set_result(reply)

    def fail(self, reason: str) -> None:
        """Fail what is under way: it was written, so nobody knows what became of it."""
        while self.under_way:
            self.under_way.popleft().fail(reason, maybe_sent=True)
