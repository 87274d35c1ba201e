"""What clients without a WebSocket say to streams on other nodes than the one that a balancer has given their request."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Final

from gateway.node.ports import Answering, StreamRequest
from gateway.node.streams import tag_in
from gateway.node.tasks import Tasks
from publisher.contract import control
from publisher.contract.calls import Call
from publisher.contract.control import ClientAnswer, ClientRequest
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

_HEARD_SECONDS: Final = 2.0
"""A node that has said nothing by then is gone, and its streams with it."""
_MARGIN_SECONDS: Final = 5.0
"""By so much an answer to a poll may be later than the poll waits."""

WAITS: Final = 102
NOT_THERE: Final = 404
_NO_MESSAGES: Final = b"[]"


class StreamCalls:
    """Implements ``ports.OtherNodes``, and answers other nodes.

    Args:
        node: the id of this node.
        serve: serves what has come for a stream of this node (``Streams.serve``).
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        node: str,
        tasks: Tasks,
        serve: Callable[[StreamRequest, Answering], bool],
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._node = node
        self._tasks = tasks
        self._serve = serve
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[bool], Answering]] = {}

    # -- asking -------------------------------------------------------------------------------

    async def ask(self, request: StreamRequest, answer: Answering) -> bool:
        """Hand a request to the node of its stream; ``False``, and no answer, where the user has no such stream there."""
        tag = tag_in(request.stream)
        if tag is None:
            return False
        loop = asyncio.get_running_loop()
        number, heard = next(self._numbers), loop.create_future()
        command = ClientRequest(
            request.stream,
            request.user,
            self._node,
            number,
            request.messages.decode(errors="replace"),
            request.wait,
            request.since,
        )
        self._waiting[number] = heard, answer
        loop.call_later(_HEARD_SECONDS, self._not_there, number)
        try:
            payload = control.encode(command)
            await self._pipeline.call(Call(("PUBLISH", self._keys.answers(tag), payload)))
            found: bool = await heard
        except BaseException:
            self._waiting.pop(number, None)
            raise
        if found and number in self._waiting:
            seconds = (request.wait or 0.0) + _MARGIN_SECONDS
            loop.call_later(seconds, self._give_up, number)
        return found

    def _not_there(self, number: int) -> None:
        heard, _ = self._waiting.get(number, (None, None))
        if heard is not None and not heard.done():
            del self._waiting[number]
            heard.set_result(False)

    def _give_up(self, number: int) -> None:
        """The stream's node has ended meanwhile, as far as anybody can tell."""
        _, answer = self._waiting.pop(number, (None, None))
        if answer is not None:
            answer(200, _NO_MESSAGES)

    def _answered(self, told: ClientAnswer) -> None:
        heard, answer = self._waiting.get(told.number, (None, None))
        if heard is None or answer is None:
            return
        if not heard.done():
            heard.set_result(told.status != NOT_THERE)
        if told.status != WAITS:
            del self._waiting[told.number]
            if told.status != NOT_THERE:
                answer(told.status, told.body.encode())

    # -- answering ----------------------------------------------------------------------------

    def hear(self, command: ClientRequest | ClientAnswer) -> None:
        """Take what another node has sent to this one."""
        if isinstance(command, ClientAnswer):
            self._answered(command)
            return
        request = StreamRequest(
            command.stream, command.user, command.message.encode(), command.wait, command.since
        )
        answered = False

        def answer(status: int, body: bytes) -> None:
            nonlocal answered
            answered = True
            self._send(command, ClientAnswer(command.number, status, body.decode()))

        if not self._serve(request, answer):
            answer(NOT_THERE, b"")
        elif not answered:
            self._send(command, ClientAnswer(command.number, WAITS))

    def _send(self, command: ClientRequest, answer: ClientAnswer) -> None:
        call = Call(("PUBLISH", self._keys.answers(command.asker), control.encode(answer)))
        self._tasks.spawn(self._call(call), "answer another node's client")

    async def _call(self, call: Call) -> None:
        # Nobody would be told that it was not: the other node gives up by itself.
        with contextlib.suppress(Unavailable):
            await self._pipeline.call(call)
