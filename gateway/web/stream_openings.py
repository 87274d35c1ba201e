"""How an event stream and polls begin, once their user is let in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core import http
from gateway.core.closing import Closing
from gateway.core.events import WITH_IDS, WITHOUT_IDS
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.node.ports import Clocks
from gateway.node.streams import Stream, Streams
from gateway.web.event_stream import RETRY, EventSocket, StreamSession, retry
from gateway.web.new_connection import NewConnection
from gateway.web.one_request import OneRequest
from gateway.web.openings import Make, Serving
from gateway.web.polling import PollSocket
from gateway.web.requests_under_way import RequestsUnderWay
from gateway.web.socket import Leaving
from gateway.web.stream_addresses import Wanted, wait_of, wanted
from gateway.web.stream_answers import NOT_KEPT, Answers, Cors, refusal_of

_STREAM_FIELDS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Connection": "close",
    **http.PRECAUTIONS,
    **NOT_KEPT,
}


@dataclass(frozen=True, slots=True)
class StreamOpening:
    """Implements ``Opening`` for an event stream."""

    head: Head
    wanted: Wanted
    cors: Cors
    streams: Streams
    serving: Serving

    @property
    def cookie_counts(self) -> bool:
        """A page's own requests name no origin where they only read. What a browser says of who asks no page can make up."""
        return self.head.get("sec-fetch-site") == "same-origin"

    def denial(self, _user: str) -> Refusal | None:
        """Only the places of a user bound its streams: each is one connection."""
        return None

    def reject(self, new: NewConnection, why: Closing) -> None:
        """Answer with a status: an ``EventSource`` that is answered so does not come back."""
        new.refuse(refusal_of(why))

    def begin(self, new: NewConnection, make: Make, leaving: Leaving) -> None:
        """Answer with the beginning of a stream."""
        serving, wanted, streams = self.serving, self.wanted, self.streams
        encoding = WITH_IDS if len(wanted.channels) == 1 else WITHOUT_IDS
        stream: Stream | None = None
        socket = EventSocket(
            encoding,
            serving.high_water,
            new.plain_socket,
            lambda: b"" if stream is None else streams.position(stream),
        )
        connection = make(socket)
        stream = streams.enter(connection, wanted.channels, wanted.since)
        session = StreamSession(serving.lifetimes, streams, stream, leaving)
        socket.serve(session)
        new.hand_over(socket)
        fields = {**_STREAM_FIELDS, **self.cors.fields(self.head)}
        session.begin(http.response(200, fields) + retry(RETRY))


@dataclass(frozen=True, slots=True)
class PollOpening(StreamOpening):
    """Implements ``Opening`` for a client that polls: its first request."""

    wait: float
    answers: Answers
    clocks: Clocks
    under_way: RequestsUnderWay

    def denial(self, user: str) -> Refusal | None:
        """Its connection lasts until its answer is taken, which may be long after its place is given back."""
        return self.under_way.refusal(user)

    def begin(self, new: NewConnection, make: Make, leaving: Leaving) -> None:
        """Begin a connection that lasts over several requests, of which this is the first."""
        serving, wanted, streams = self.serving, self.wanted, self.streams
        socket = PollSocket(serving.high_water, wanted.told, *self.clocks)
        stream = streams.enter(make(socket), wanted.channels, wanted.since)
        stream.polls = socket
        session = StreamSession(serving.lifetimes, streams, stream, leaving)
        socket.serve(streams, stream, session)
        leave = self.under_way.begin(stream.connection.user, stream.name)

        def gone() -> None:
            leave()
            socket.forget(waiting.answer)

        waiting = Waiting(self.answers.to(self.head), gone)
        session.begin(b"")
        waiting.begin(new)
        socket.poll(wanted.told, self.wait, waiting.answer)


class StreamOpenings:
    """Reads what requests ask for.

    Args:
        max_subscriptions: channels that a request may name.
    """

    def __init__(
        self,
        streams: Streams,
        serving: Serving,
        answers: Answers,
        clocks: Clocks,
        polls: RequestsUnderWay,
        max_subscriptions: int,
    ) -> None:
        self._parts = answers.cors, streams, serving
        self._for_polls = answers, clocks, polls
        self._most = max_subscriptions

    def plain(self, head: Head) -> StreamOpening:
        """One of no channels."""
        return StreamOpening(head, Wanted((), ()), *self._parts)

    def stream(self, head: Head) -> StreamOpening:
        """An event stream.

        Raises:
            BadAddress: the address cannot be served.
        """
        return StreamOpening(head, wanted(head, self._most, "lastEventId"), *self._parts)

    def poll(self, head: Head) -> PollOpening:
        """A poll.

        Raises:
            BadAddress: the address cannot be served.
        """
        asked, wait = wanted(head, self._most, "since"), wait_of(head)
        return PollOpening(head, asked, *self._parts, wait, *self._for_polls)


class Waiting:
    """A request that waits for its answer.

    Args:
        render: makes the answer from a status and JSON.
        gone: called when nobody waits any more.
    """

    def __init__(self, render: Callable[[int, bytes], bytes], gone: Callable[[], None]) -> None:
        self._render = render
        self._request = OneRequest(0, lambda _body: None, gone)

    def begin(self, new: NewConnection) -> None:
        """Take over the connection."""
        self._request.begin(new.hand_over(self._request))

    def answer(self, status: int, body: bytes) -> None:
        """Send the answer."""
        if not self._request.over:
            self._request.answer(self._render(status, body))
