"""Requests of clients without a WebSocket: for an event stream, and for what they have to say to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

import orjson

from gateway.core import closing, http, positions
from gateway.core.closing import Closing
from gateway.core.events import WITH_IDS, WITHOUT_IDS
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.core.positions import Position
from gateway.node.streams import Stream, Streams
from gateway.web.event_stream import RETRY, EventSocket, StreamSession, retry
from gateway.web.handshake import Handshakes
from gateway.web.new_connection import NewConnection
from gateway.web.openings import Make, Serving
from gateway.web.refused_connections import RefusedConnections
from gateway.web.socket import Left
from publisher.contract.channels import Channel, parse_channel
from publisher.errors import InvalidChannel

_SSE: Final = "/sse"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "7200",
}
_NOT_KEPT: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Neither kept nor changed nor gathered by what is between: nginx takes the second."""
_STREAM_FIELDS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Connection": "close",
    **http.PRECAUTIONS,
    **_NOT_KEPT,
}
_WRONG_METHOD: Final = Refusal(
    405, "method_not_allowed", "this address is read, or sent messages to", {"Allow": "GET, POST"}
)
_LIMIT_RETRY: Final = {"Retry-After": "5"}


class BadAddress(Exception):
    """The parameters of a request say nothing that can be served."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(400, code, message)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which channels a request names, each once, and from where on they are wanted."""

    channels: Sequence[Channel]
    since: Sequence[Position]


def wanted(head: Head, most: int, since: str) -> Wanted:
    """What a request asks for.

    Args:
        head: the request.
        most: channels that it may name.
        since: the parameter with the position, if it is not in ``Last-Event-ID``.

    Raises:
        BadAddress: it names too many channels, or what is none.
    """
    parameters = parse_qsl(head.query)
    names = list(dict.fromkeys(value for name, value in parameters if name == "channel"))
    if len(names) > most:
        raise BadAddress("too_many_subscriptions", f"at most {most} channels can be subscribed to")
    try:
        channels = [parse_channel(each) for each in names]
    except InvalidChannel:
        message = f"a channel is {InvalidChannel.form}"
        raise BadAddress("invalid_channel", message) from None
    told = head.get("last-event-id") or dict(reversed(parameters)).get(since) or ""
    return Wanted(channels, positions.decode(names, told))


class Cors:
    """What browsers are told about pages of other origins. Only those come here that may connect.

    Args:
        credentials: whether a page may send cookies along: those of a balancer, for a token counts only from its own site.
    """

    def __init__(self, *, credentials: bool) -> None:
        self._credentials = credentials

    def fields(self, head: Head) -> dict[str, str]:
        """What is added to an answer."""
        origin = head.get("origin")
        if origin is None:
            return {"Vary": "Origin"}
        fields = {"Vary": "Origin", "Access-Control-Allow-Origin": origin}
        return (
            fields | {"Access-Control-Allow-Credentials": "true"} if self._credentials else fields
        )


def refusal_of(why: Closing) -> Refusal:
    """What a WebSocket would be closed with, as an answer in HTTP."""
    told = orjson.loads(why.error or b"{}")
    code, message = told.get("code", why.reason), told.get("detail", why.reason)
    if why is closing.CONNECTION_LIMIT:
        return Refusal(429, code, message, _LIMIT_RETRY)
    return Refusal(401, code, message, {"WWW-Authenticate": "Bearer"})


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

    def refusal(self, refusal: Refusal) -> Refusal:
        """An answer that a page of another origin can read."""
        return replace(refusal, fields={**refusal.fields, **self.cors.fields(self.head)})

    def reject(self, new: NewConnection, why: Closing) -> None:
        """Answer with a status: an ``EventSource`` that is answered so does not come back."""
        new.refuse(self.refusal(refusal_of(why)).answer)

    def begin(self, new: NewConnection, make: Make, left: Left) -> None:
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
        session = StreamSession(serving.lifetimes, streams, stream, left)
        socket.serve(session)
        new.hand_over(socket)
        fields = {**_STREAM_FIELDS, **self.cors.fields(self.head)}
        session.begin(http.response(200, fields) + retry(RETRY))


class StreamRequests:
    """Serves what comes to ``/sse``.

    Args:
        base: what stands before the paths.
        max_subscriptions: channels that a request may name.
    """

    def __init__(
        self,
        base: str,
        handshakes: Handshakes,
        streams: Streams,
        refusals: RefusedConnections,
        cors: Cors,
        max_subscriptions: int,
    ) -> None:
        self._sse = base + _SSE
        self._handshakes = handshakes
        self._streams = streams
        self._refusals = refusals
        self._cors = cors
        self._max_subscriptions = max_subscriptions

    def serves(self, path: str) -> bool:
        """Whether requests for this path come here."""
        return path == self._sse

    def requested(self, new: NewConnection, head: Head) -> None:
        """Answer one."""
        if self._handshakes.is_foreign(new, head):
            return
        if head.method == "OPTIONS":
            new.refuse(
                http.response(204, {"Connection": "close", **_PREFLIGHT, **self._cors.fields(head)})
            )
        elif head.method == "GET" and not head.announces_body:
            self._open(new, head)
        else:
            self._refuse(new, head, _WRONG_METHOD)

    def _open(self, new: NewConnection, head: Head) -> None:
        try:
            asked = wanted(head, self._max_subscriptions, "lastEventId")
        except BadAddress as error:
            self._refuse(new, head, error.refusal)
            return
        serving = self._handshakes.serving
        opening = StreamOpening(head, asked, self._cors, self._streams, serving)
        self._handshakes.open(new, opening)

    def _refuse(self, new: NewConnection, head: Head, refusal: Refusal) -> None:
        fields = {**refusal.fields, **self._cors.fields(head)}
        self._refusals.refuse(new, replace(refusal, fields=fields))
