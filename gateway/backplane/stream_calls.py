"""What clients without a WebSocket say to streams on other nodes than the one that a balancer has given their request."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from gateway.node.ports import Answering, StreamRequest
from gateway.node.streams import (
    FAILED,
    NO_MESSAGES,
    NOT_FOUND,
    UNAVAILABLE,
    Streams,
    tag_in,
    tag_of,
)
from gateway.node.tasks import Tasks
from publisher.contract import control
from publisher.contract.calls import Call
from publisher.contract.control import ClientAnswer, ClientGone, ClientRequest, OfStreams
from publisher.contract.keys import Keys
from publisher.errors import Unavailable
from publisher.transport.pipeline import Calls

log = logging.getLogger(__name__)

_HEARD_SECONDS: Final = 2.0
"""A node that has said nothing by then is not waited for."""
_LOOK_SECONDS: Final = 1.0
"""So often it is looked whether the nodes live on which polls wait, and those that wait for these."""
_MARGIN_SECONDS: Final = 5.0
"""By so much an answer to a poll may be later than the poll waits."""

_WAITS: Final = 102
"""The status by which a node says that a poll waits there (see :class:`ClientAnswer`)."""


@dataclass(slots=True)
class _Asked:
    """A request that another node was handed. ``heard``: whether the user has the stream there; ``None`` where nobody has said.
    ``timer``: gives up.
    """

    tag: str
    number: int
    answer: Answering
    heard: asyncio.Future[bool | None]
    timer: asyncio.TimerHandle | None = None


class StreamCalls:
    """Implements ``ports.OtherNodes``, and answers other nodes.

    Args:
        node: the id of this node.
        streams: those of this node.
        living: the nodes that live; ``None`` while that cannot be told.
    """

    def __init__(
        self,
        pipeline: Calls,
        keys: Keys,
        node: str,
        tasks: Tasks,
        streams: Streams,
        living: Callable[[], Awaitable[Collection[bytes] | None]],
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._node = node
        self._tasks = tasks
        self._streams = streams
        self._living = living
        self._looking = False
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._by_answer: dict[Answering, _Asked] = {}
        # Polls that wait here for their answers, by the node that has handed them on and its number.
        self._waiting: dict[tuple[str, int], tuple[StreamRequest, Answering]] = {}

    # -- asking -------------------------------------------------------------------------------

    async def ask(self, request: StreamRequest, answer: Answering) -> bool:
        """Hand a request to the node of its stream; ``False``, and no answer, where the user has no such stream there.

        A poll begins anew where nobody answers in time. What is said may still be carried out, so the stream is not said to be gone
        while its node lives.
        """
        tag = tag_in(request.stream)
        if tag is None:
            return False
        loop = asyncio.get_running_loop()
        asked = _Asked(tag, next(self._numbers), answer, loop.create_future())
        command = _command(request, self._node, asked.number)
        self._asked[asked.number] = self._by_answer[answer] = asked
        asked.timer = loop.call_later(_HEARD_SECONDS, self._not_heard, asked)
        try:
            hearers = await self._pipeline.call(self._to(tag, command))
            # A server of a cluster knows its own subscribers only.
            if not hearers and not (self._keys.sharded and await self._lives(tag)):
                self._end(asked)
            found = await asked.heard
        except Exception:
            self._give_up(asked)
            raise
        except BaseException:  # this node stops, which the other one sees
            self._pop(asked.number)
            raise
        if found is None and request.wait is None and await self._lives(tag):
            answer(UNAVAILABLE, b"")
            return True
        if found and asked.number in self._asked:
            seconds = (request.wait or 0.0) + _MARGIN_SECONDS
            asked.timer.cancel()
            asked.timer = loop.call_later(seconds, self._end, asked)
            self._look()
        return bool(found)

    def forget(self, answer: Answering) -> None:
        """Whoever has polled, and waits for this answer, has gone."""
        asked = self._by_answer.get(answer)
        if asked is not None:
            self._give_up(asked)

    def _give_up(self, asked: _Asked) -> bool:
        """Wait for it no longer, and say so: a node that is only slow would serve it for nobody. ``False``: it is answered."""
        if self._pop(asked.number) is None:
            return False
        self._send(asked.tag, ClientGone(self._node, asked.number))
        return True

    def _pop(self, number: int) -> _Asked | None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            del self._by_answer[asked.answer]
            if asked.timer is not None:
                asked.timer.cancel()
        return asked

    def _not_heard(self, asked: _Asked) -> None:
        if not asked.heard.done():
            self._end(asked)

    def _end(self, asked: _Asked) -> None:
        """The stream's node has ended, as far as anybody can tell."""
        if not self._give_up(asked):
            return
        if asked.heard.done():
            asked.answer(200, NO_MESSAGES)
        else:
            asked.heard.set_result(None)

    def _look(self) -> None:
        """Look for nodes that have ended, as long as polls wait there, or here for them."""
        if not self._looking:
            self._looking = True
            self._tasks.spawn(self._end_with_nodes(), "look for nodes on which polls wait")

    async def _end_with_nodes(self) -> None:
        try:
            while self._asked or self._waiting:
                await asyncio.sleep(_LOOK_SECONDS)
                lives = await self._tags()
                if lives is not None:
                    self._end_without(lives)
        finally:
            self._looking = False

    def _end_without(self, lives: set[str]) -> None:
        for asked in list(self._asked.values()):
            if asked.tag not in lives:
                self._end(asked)
        for asker, number in list(self._waiting):
            if tag_of(asker) not in lives:
                self._gone(asker, number)

    async def _lives(self, tag: str) -> bool:
        lives = await self._tags()
        return lives is None or tag in lives

    async def _tags(self) -> set[str] | None:
        """The tags of the nodes that live; ``None`` where that cannot be told."""
        with contextlib.suppress(Unavailable):
            living = await self._living()
            return None if living is None else {tag_of(each.decode()) for each in living}
        return None

    def _answered(self, told: ClientAnswer) -> None:
        asked = self._asked.get(told.number)
        if asked is None:
            return
        if not asked.heard.done():
            asked.heard.set_result(told.status != NOT_FOUND)
        if told.status != _WAITS:
            self._pop(told.number)
            if told.status != NOT_FOUND:
                asked.answer(told.status, told.body.encode())

    # -- answering ----------------------------------------------------------------------------

    def hear(self, command: OfStreams) -> None:
        """Take what another node has sent to this one."""
        match command:
            case ClientAnswer():
                self._answered(command)
            case ClientGone(asker, number):
                self._gone(asker, number)
            case ClientRequest():
                self._serve(command)

    def _gone(self, asker: str, number: int) -> None:
        """Nobody waits for this answer."""
        waiting = self._waiting.pop((asker, number), None)
        if waiting is not None:
            self._streams.forget(*waiting)

    def _serve(self, command: ClientRequest) -> None:
        request = _request(command)
        name = command.asker, command.number
        self._waiting[name] = request, (answer := self._answering(command))
        try:
            is_there = self._streams.serve(request, answer)
        except Exception:
            log.exception("stream_request_failed user=%r", request.user)
            answer(FAILED, b"")
            return
        if not is_there:
            answer(NOT_FOUND, b"")
        elif name in self._waiting:
            self._send(command.asker, ClientAnswer(command.number, _WAITS))
            self._look()

    def _answering(self, command: ClientRequest) -> Answering:
        def answer(status: int, body: bytes) -> None:
            if self._waiting.pop((command.asker, command.number), None) is not None:
                self._send(command.asker, ClientAnswer(command.number, status, body.decode()))

        return answer

    # -- both ---------------------------------------------------------------------------------

    def _to(self, node: str, command: OfStreams) -> Call:
        return Call(("PUBLISH", self._keys.answers(node), control.encode(command)))

    def _send(self, node: str, command: OfStreams) -> None:
        self._tasks.spawn(self._call(self._to(node, command)), "tell another node of a client")

    async def _call(self, call: Call) -> None:
        # Nobody would be told that it was not: the other node gives up by itself.
        with contextlib.suppress(Unavailable):
            await self._pipeline.call(call)


def _command(request: StreamRequest, asker: str, number: int) -> ClientRequest:
    return ClientRequest(
        request.stream,
        request.user,
        asker,
        number,
        request.messages.decode(errors="replace"),
        request.wait,
        request.since,
        request.leaves,
    )


def _request(command: ClientRequest) -> StreamRequest:
    return StreamRequest(
        command.stream,
        command.user,
        command.message.encode(),
        command.wait,
        command.since,
        command.leaves,
    )
