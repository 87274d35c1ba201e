"""What a client without a WebSocket has to say to its stream, on whichever node, and that it leaves."""

from __future__ import annotations

from typing import Final

from gateway.core.access import Identity
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.node.ports import StreamRequest
from gateway.node.streams import NOT_FOUND
from gateway.node.tasks import Tasks
from gateway.web.new_connection import NewConnection
from gateway.web.one_request import OneRequest
from gateway.web.refused_connections import RefusedConnections
from gateway.web.requests_under_way import RequestsUnderWay
from gateway.web.stream_answers import Answers
from gateway.web.stream_openings import StreamOpening
from gateway.web.stream_routing import StreamRouting

NO_BODY: Final = Refusal(400, "bad_request", "this method takes no body")
_NO_LENGTH: Final = Refusal(411, "length_required", "say how long the message is: Content-Length")
_TOO_LARGE: Final = Refusal(413, "message_too_large", "the message is too large")
_NO_JSON: Final = Refusal(415, "unsupported_media_type", "send application/json")
_LONGEST_LENGTH: Final = 10


class StreamPosts:
    """Reads what is said (``POST``, ``DELETE``), and takes it to its stream.

    Args:
        max_message_bytes: what may be said at once.
    """

    def __init__(
        self,
        routing: StreamRouting,
        answers: Answers,
        under_way: RequestsUnderWay,
        refusals: RefusedConnections,
        tasks: Tasks,
        max_message_bytes: int,
    ) -> None:
        self._routing = routing
        self._answers = answers
        self._under_way = under_way
        self._refusals = refusals
        self._tasks = tasks
        self._max_message_bytes = max_message_bytes

    def refusal(self, head: Head) -> Refusal | None:
        """Why a body with this head is not read; ``None`` where it is."""
        if head.method == "DELETE":
            return NO_BODY if head.announces_body else None
        length = _length(head)
        kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return _NO_JSON
        if "transfer-encoding" in head.fields or length is None:
            return _NO_LENGTH
        return _TOO_LARGE if length > self._max_message_bytes else None

    def begin(
        self, new: NewConnection, opening: StreamOpening, identity: Identity, name: str
    ) -> None:
        """Read one that :meth:`refusal` has let pass, and whose token is good, and answer it."""
        entered = self._under_way.enter(identity.user, name)
        if isinstance(entered, Refusal):
            self._refusals.refuse(new, entered)
            return
        new.known()
        leaves = opening.head.method == "DELETE"
        length = 0 if leaves else _length(opening.head) or 0
        render = self._answers.to(opening.head)
        mark = self._routing.mark

        def whole(body: bytes) -> None:
            request = StreamRequest(name, identity.user, body, leaves=leaves)
            self._tasks.spawn(say(request), "say something to a stream")

        async def say(request: StreamRequest) -> None:
            if not await self._routing.route(identity, mark, request, answer):
                answer(NOT_FOUND, b"")

        def answer(status: int, body: bytes) -> None:
            reading.answer(render(status, body))

        reading = OneRequest(length, whole, entered)
        early = new.hand_over(reading)
        if len(early) < length and _waits_for_invitation(opening.head):
            reading.invite()
        reading.begin(early)


def _waits_for_invitation(head: Head) -> bool:
    return head.version != "1.0" and "100-continue" in head.tokens("expect")


def _length(head: Head) -> int | None:
    """How many bytes a body has (RFC 9110 §8.6); ``None`` where that is not said, or is very many."""
    text = head.get("content-length") or ""
    is_length = text.isascii() and text.isdigit() and len(text) < _LONGEST_LENGTH
    return int(text) if is_length else None
