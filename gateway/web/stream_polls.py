"""Polls of clients that have polled before: each waits here for its answer, whichever node its stream is on."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.access import Identity
from gateway.core.handshake import Refusal
from gateway.node.ports import StreamRequest
from gateway.node.streams import NO_MESSAGES
from gateway.node.tasks import Tasks
from gateway.web.handshake import Handshakes
from gateway.web.new_connection import NewConnection
from gateway.web.refused_connections import RefusedConnections
from gateway.web.requests_under_way import RequestsUnderWay
from gateway.web.stream_openings import PollOpening, Waiting
from gateway.web.stream_routing import StreamRouting


class StreamPolls:
    """Takes polls to their streams. One whose stream is not known begins anew."""

    def __init__(
        self,
        handshakes: Handshakes,
        routing: StreamRouting,
        under_way: RequestsUnderWay,
        refusals: RefusedConnections,
        tasks: Tasks,
    ) -> None:
        self._handshakes = handshakes
        self._routing = routing
        self._under_way = under_way
        self._refusals = refusals
        self._tasks = tasks
        self._waiting: set[Waiting] = set()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any more: the next poll goes to another node."""
        self._closed = True
        for waiting in list(self._waiting):
            waiting.answer(200, NO_MESSAGES)

    def begin(
        self, new: NewConnection, opening: PollOpening, identity: Identity, request: StreamRequest
    ) -> None:
        """Serve one whose token is good."""
        entered = self._under_way.enter(identity.user, request.stream)
        if isinstance(entered, Refusal):
            self._refusals.refuse(new, entered)
            return
        new.known()
        mark = self._routing.mark
        self._tasks.spawn(self._take_up(new, opening, identity, mark, request, entered), "poll")

    async def _take_up(
        self,
        new: NewConnection,
        opening: PollOpening,
        identity: Identity,
        mark: int,
        request: StreamRequest,
        leave: Callable[[], None],
    ) -> None:
        # What was answered before the connection was taken over.
        early: list[tuple[int, bytes]] = []
        begun = False

        def answer(status: int, body: bytes) -> None:
            if begun:
                waiting.answer(status, body)
            else:
                early.append((status, body))

        def over() -> None:
            self._waiting.discard(waiting)
            leave()

        def gone() -> None:
            over()
            self._routing.forget(request, answer)

        waiting = Waiting(opening.answers.to(opening.head), gone)
        try:
            found = await self._routing.route(identity, mark, request, answer)
        except BaseException:  # the node stops
            over()
            new.drop()
            raise
        if not new.waits:
            gone()
            new.drop()
        elif found:
            self._waiting.add(waiting)
            waiting.begin(new)
            begun = True
            for each in early:
                waiting.answer(*each)
            if self._closed:
                waiting.answer(200, NO_MESSAGES)
        else:
            over()
            self._handshakes.open(new, opening)
