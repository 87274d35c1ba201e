"""Requests of clients without a WebSocket: for an event stream, for what they poll, and with what they have to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.core import http
from gateway.core.access import Identity
from gateway.core.handshake import Refusal
from gateway.core.http import Head
from gateway.node.ports import StreamRequest
from gateway.node.streams import tag_in
from gateway.web.auth import query_parameters
from gateway.web.handshake import Handshakes
from gateway.web.new_connection import NewConnection
from gateway.web.refused_connections import RefusedConnections
from gateway.web.stream_addresses import BadAddress
from gateway.web.stream_openings import PollOpening, StreamOpening, StreamOpenings
from gateway.web.stream_polls import StreamPolls
from gateway.web.stream_posts import NO_BODY, StreamPosts
from gateway.web.stream_routing import StreamRouting

_SSE: Final = "/sse"
_POLL: Final = "/poll"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": "7200",
}


class StreamRequests:
    """Serves what comes to ``/sse`` and ``/poll``.

    Args:
        base: what stands before the paths.
    """

    def __init__(
        self,
        base: str,
        handshakes: Handshakes,
        openings: StreamOpenings,
        polls: StreamPolls,
        posts: StreamPosts,
        refusals: RefusedConnections,
        routing: StreamRouting,
    ) -> None:
        self._sse_path = base + _SSE
        self._poll_path = base + _POLL
        self._handshakes = handshakes
        self._openings = openings
        self._polls = polls
        self._posts = posts
        self._refusals = refusals
        self._routing = routing
        self._quota = routing.quota

    def close(self) -> None:
        """Let nobody wait any more: the next poll goes to another node."""
        self._polls.close()

    def serves(self, path: str) -> bool:
        """Whether requests for this path come here."""
        return path in {self._sse_path, self._poll_path} or self._name(path) is not None

    def _name(self, path: str) -> str | None:
        """What stands for the name of a stream in this path."""
        before, _, name = path.rpartition("/")
        return (name or None) if before in {self._sse_path, self._poll_path} else None

    def requested(self, new: NewConnection, head: Head) -> None:
        """Answer one."""
        if self._handshakes.is_foreign(new, head):
            return
        opening = self._openings.plain(head)
        new.refusal_fields = opening.cors.fields(head)
        if self._handshakes.is_overlong(new, head):
            return
        name = self._name(head.path)
        methods = ("GET",) if name is None else ("POST", "DELETE")
        if head.method == "OPTIONS":
            self._allow(new, ", ".join(methods))
        elif head.method not in methods:
            self._refusals.refuse(new, _wrong_method(", ".join(methods)))
        elif name is not None:
            self._say(new, opening, name)
        elif head.announces_body:
            self._refusals.refuse(new, NO_BODY)
        else:
            self._get(new, opening)

    def _get(self, new: NewConnection, plain: StreamOpening) -> None:
        head = plain.head
        try:
            if head.path == self._sse_path:
                self._handshakes.open(new, self._openings.stream(head))
                return
            opening = self._openings.poll(head)
        except BadAddress as error:
            self._refusals.refuse(new, error.refusal)
            return
        name = query_parameters(head).get("poll", "")
        if tag_in(name):
            self._poll_again(new, opening, name)
        else:
            self._handshakes.open(new, opening)

    def _poll_again(self, new: NewConnection, opening: PollOpening, name: str) -> None:
        def known(identity: Identity) -> None:
            user, since = identity.user, opening.wanted.told
            request = StreamRequest(name, user, b"", opening.wait, since)
            self._polls.begin(new, opening, identity, request)

        self._identify(new, opening, name, known)

    def _say(self, new: NewConnection, opening: StreamOpening, name: str) -> None:
        refusal = self._posts.refusal(opening.head)
        if refusal is not None:
            self._refusals.refuse(new, refusal)
        else:
            self._identify(
                new, opening, name, lambda known: self._posts.begin(new, opening, known, name)
            )

    def _identify(
        self,
        new: NewConnection,
        opening: StreamOpening,
        name: str,
        then: Callable[[Identity], None],
    ) -> None:
        """Let ``then`` serve who asks something of a stream with a good token. Before that it takes nothing from its user."""

        def known(identity: Identity) -> None:
            refusal = self._quota.refusal(identity.user)
            if refusal is not None:
                self._refusals.refuse(new, refusal, user=identity.user)
            elif self._routing.is_own(identity, name):
                good(identity)
            else:
                self._handshakes.ask_about(new, opening, identity, good)

        def good(identity: Identity) -> None:
            self._quota.count(identity.user)
            then(identity)

        self._handshakes.identify(new, opening, known)

    def _allow(self, new: NewConnection, methods: str) -> None:
        """Say what may be asked here; a browser asks for a page of another origin."""
        allowed = {"Allow": f"{methods}, OPTIONS", "Access-Control-Allow-Methods": methods}
        fields = {
            "Connection": "close",
            **allowed,
            **_PREFLIGHT,
            **new.refusal_fields,
        }
        new.answer(http.response(204, fields))


def _wrong_method(methods: str) -> Refusal:
    allowed = {"Allow": f"{methods}, OPTIONS"}
    return Refusal(405, "method_not_allowed", f"this address takes {methods}", allowed)
