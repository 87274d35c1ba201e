"""Takes requests of clients without a WebSocket to their streams, here and on other nodes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gateway.core.access import Identity
from gateway.node.ports import Answering, OtherNodes, StreamRequest
from gateway.node.revocations import Revocations
from gateway.node.streams import FAILED, REVOKED, UNAVAILABLE, Streams, tag_in
from gateway.web.user_quota import UserQuota
from publisher.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamRouting:
    """What takes requests to their streams.

    A request counts only with a token that is good now. With its own token a stream has ended by now if that is revoked; about any
    other Redis is asked.
    """

    streams: Streams
    others: OtherNodes
    revocations: Revocations
    quota: UserQuota

    def is_here(self, name: str) -> bool:
        """Whether a stream of this name is on this node, if there is one."""
        return tag_in(name) == self.streams.tag

    async def route(self, identity: Identity, request: StreamRequest, answer: Answering) -> bool:
        """Hand a request to its stream; ``False``, and no answer, where the user has none of that name. Whatever fails is answered.

        Args:
            identity: whom the token speaks for that has come with the request.
            request: of the same user.
            answer: answers it.
        """
        try:
            return await self._route(identity, request, answer)
        except Unavailable:
            answer(UNAVAILABLE, b"")
        except Exception:
            log.exception("stream_request_failed user=%r", request.user)
            answer(FAILED, b"")
        return True

    async def _route(self, identity: Identity, request: StreamRequest, answer: Answering) -> bool:
        here = self.is_here(request.stream)
        stream = self.streams.find(request.stream, request.user) if here else None
        if here and stream is None:
            return False
        is_its_own = stream is not None and stream.connection.identity == identity
        shown = identity.user, identity.issued_at, identity.token_id
        if not (is_its_own or await self.revocations.admits_now(*shown)):
            answer(REVOKED, b"")
            return True
        self.quota.count(identity.user)
        return (
            self.streams.serve(request, answer) if here else await self.others.ask(request, answer)
        )

    def forget(self, request: StreamRequest, answer: Answering) -> None:
        """Whoever has polled, and waits for this answer, has gone."""
        if self.is_here(request.stream):
            self.streams.forget(request, answer)
        else:
            self.others.forget(answer)
