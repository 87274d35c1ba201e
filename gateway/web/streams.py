"""Requests of clients without a WebSocket: for an event stream, for what they poll, and with what they have to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gateway.core import http
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.core.rate_limit import Quota
from gateway.node.ports import Answering, Clocks, OtherNodes, StreamRequest
from gateway.node.streams import Streams, tag_in
from gateway.node.tasks import Tasks
from gateway.web.admission import unavailable
from gateway.web.auth import query_parameters
from gateway.web.handshake import Handshakes
from gateway.web.new_connection import NewConnection
from gateway.web.one_request import OneRequest
from gateway.web.refused_connections import RefusedConnections
from gateway.web.stream_addresses import BadAddress, Wanted, wait_of, wanted
from gateway.web.stream_answers import NO_STREAM, Answers
from gateway.web.stream_openings import PollOpening, StreamOpening, Waiting
from publisher.errors import Unavailable

_SSE: Final = "/sse"
_POLL: Final = "/poll"
_REQUESTS: Final = 200
_PERIOD_SECONDS: Final = 10.0
_USERS: Final = 10_000
"""So many requests of a user are taken in a period: each may have to be carried to another node."""
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "7200",
}
_WRONG_METHOD: Final = Refusal(
    405, "method_not_allowed", "this address is read, or sent messages to", {"Allow": "GET, POST"}
)
_NO_LENGTH: Final = Refusal(411, "length_required", "say how long the message is: Content-Length")
_TOO_LARGE: Final = Refusal(413, "message_too_large", "the message is too large")
_NO_JSON: Final = Refusal(415, "unsupported_media_type", "send application/json")
_TOO_MANY: Final = Refusal(
    429, "too_many_requests", "too many requests of this user", {"Retry-After": "5"}
)
_LONGEST_LENGTH: Final = 10


@dataclass(frozen=True, slots=True)
class Carrying:
    """What takes requests to their streams, here and on other nodes."""

    streams: Streams
    others: OtherNodes
    tasks: Tasks

    async def carry(self, request: StreamRequest, answer: Answering) -> bool:
        """Hand a request to its stream; ``False``, and no answer, where the user has none of that name.

        Raises:
            Unavailable: Redis did not answer, or answered with an error.
        """
        if tag_in(request.stream) == self.streams.tag:
            return self.streams.serve(request, answer)
        return await self.others.ask(request, answer)


class StreamRequests:
    """Serves what comes to ``/sse`` and ``/poll``.

    Args:
        base: what stands before the paths.
        max_subscriptions: channels that a request may name.
        max_message_bytes: what may be sent to a stream at once.
    """

    def __init__(
        self,
        base: str,
        handshakes: Handshakes,
        carrying: Carrying,
        refusals: RefusedConnections,
        answers: Answers,
        clocks: Clocks,
        max_subscriptions: int,
        max_message_bytes: int,
    ) -> None:
        self._sse = base + _SSE
        self._poll = base + _POLL
        self._handshakes = handshakes
        self._carrying = carrying
        self._streams = carrying.streams
        self._refusals = refusals
        self._answers = answers
        self._cors = answers.cors
        self._clocks = clocks
        self._max_subscriptions = max_subscriptions
        self._max_message_bytes = max_message_bytes
        self._waiting: set[Waiting] = set()
        self._quota = Quota(_REQUESTS, _PERIOD_SECONDS, clocks.monotonic(), _USERS)

    def close(self) -> None:
        """Let nobody wait any more: the next poll goes to another node."""
        for waiting in list(self._waiting):
            waiting.answer(200, b"[]")

    def serves(self, path: str) -> bool:
        """Whether requests for this path come here."""
        return path in {self._sse, self._poll} or self._name(path) is not None

    def _name(self, path: str) -> str | None:
        """The name of the stream to which something is said at this path."""
        before, _, name = path.rpartition("/")
        return name if before in {self._sse, self._poll} and tag_in(name) else None

    def requested(self, new: NewConnection, head: Head) -> None:
        """Answer one."""
        if self._handshakes.is_foreign(new, head):
            return
        name = self._name(head.path)
        if head.method == "OPTIONS":
            new.refuse(
                http.response(204, {"Connection": "close", **_PREFLIGHT, **self._cors.fields(head)})
            )
        elif name is not None and head.method == "POST":
            self._post(new, head, name)
        elif name is None and head.method == "GET" and not head.announces_body:
            self._get(new, head)
        else:
            self._refuse(new, head, _WRONG_METHOD)

    # -- GET ----------------------------------------------------------------------------------

    def _get(self, new: NewConnection, head: Head) -> None:
        polls = head.path == self._poll
        serving = self._handshakes.serving
        try:
            asked = wanted(head, self._max_subscriptions, "since" if polls else "lastEventId")
            opening = StreamOpening(head, asked, self._cors, self._streams, serving)
            if polls:
                parts = wait_of(head), self._answers, self._clocks
                opening = PollOpening(head, asked, self._cors, self._streams, serving, *parts)
        except BadAddress as error:
            self._refuse(new, head, error.refusal)
            return
        name = query_parameters(head).get("poll")
        if isinstance(opening, PollOpening) and name and tag_in(name):
            self._poll_again(new, opening, name)
        else:
            self._handshakes.open(new, opening)

    def _poll_again(self, new: NewConnection, opening: PollOpening, name: str) -> None:
        identity = self._handshakes.identify(new, opening)
        if identity is None or not self._bears(new, opening.head, identity.user):
            return
        new.known()
        told = query_parameters(opening.head).get("since", "")
        request = StreamRequest(name, identity.user, b"", opening.wait, told)
        self._carrying.tasks.spawn(self._take_up(new, opening, request), "poll")

    async def _take_up(
        self, new: NewConnection, opening: PollOpening, request: StreamRequest
    ) -> None:
        """Wait for an answer where the client has polled before, on whichever node; begin anew where it is not known."""
        stream = self._streams.find(request.stream, request.user)
        polls = stream.polls if stream is not None else None
        # What was answered before the connection was taken over.
        early: list[tuple[int, bytes]] = []
        begun = False

        def answer(status: int, body: bytes) -> None:
            if begun:
                waiting.answer(status, body)
            else:
                early.append((status, body))

        def gone() -> None:
            self._waiting.discard(waiting)
            if polls is not None:
                polls.forget(answer)

        waiting = Waiting(self._answers.to(opening.head), gone)
        try:
            found = await self._carrying.carry(request, answer)
        except Unavailable:
            self._refuse(new, opening.head, unavailable("redis_unavailable"))
            return
        except BaseException:
            new.drop()
            raise
        if not new.waits:
            gone()
            new.drop()
        elif found:
            waiting.begin(new)
            begun = True
            self._waiting.add(waiting)
            for each in early:
                waiting.answer(*each)
        else:
            self._handshakes.open(new, opening)

    # -- POST ---------------------------------------------------------------------------------

    def _post(self, new: NewConnection, head: Head, name: str) -> None:
        length = head.get("content-length") or ""
        kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            self._refuse(new, head, _NO_JSON)
        elif "transfer-encoding" in head.fields or not _is_length(length):
            self._refuse(new, head, _NO_LENGTH)
        elif int(length) > self._max_message_bytes:
            self._refuse(new, head, _TOO_LARGE)
        else:
            nothing = Wanted((), ())
            serving = self._handshakes.serving
            opening = StreamOpening(head, nothing, self._cors, self._streams, serving)
            identity = self._handshakes.identify(new, opening)
            if identity is not None and self._bears(new, head, identity.user):
                self._read(new, head, StreamRequest(name, identity.user), int(length))

    def _read(self, new: NewConnection, head: Head, request: StreamRequest, length: int) -> None:
        render = self._answers.to(head)

        def whole(body: bytes) -> None:
            carrying = self._say(replace(request, messages=body), answer)
            self._carrying.tasks.spawn(carrying, "say something to a stream")

        def answer(status: int, body: bytes) -> None:
            reading.answer(render(status, body))

        # It counts among those without a token until it is answered: it holds no place.
        reading = OneRequest(length, whole, new.known)
        reading.begin(new.hand_over(reading))

    async def _say(self, request: StreamRequest, answer: Answering) -> None:
        try:
            if not await self._carrying.carry(request, answer):
                answer(NO_STREAM.status, b"")
        except Unavailable:
            answer(503, b"")

    # -- refusals -----------------------------------------------------------------------------

    def _bears(self, new: NewConnection, head: Head, user: str) -> bool:
        if self._quota.take(user, self._clocks.monotonic()):
            return True
        self._refuse(new, head, _TOO_MANY)
        return False

    def _refuse(self, new: NewConnection, head: Head, refusal: Refusal) -> None:
        fields = {**refusal.fields, **self._cors.fields(head)}
        self._refusals.refuse(new, replace(refusal, fields=fields))


def _is_length(text: str) -> bool:
    """Whether this is how many bytes a body has (RFC 9110 §8.6), and not very many."""
    return text.isascii() and text.isdigit() and len(text) < _LONGEST_LENGTH
